"""States and models that commit 8d6db0e wrote, in `earlier/`: continued to the same bits."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from magmax_jax.cli.main import main
from magmax_jax.io.safetensors.reader import open_files

EARLIER = Path(__file__).parent / "earlier"
MADE_AT = "/tmp/models"


def moved(state: Path, to: Path) -> None:
    """The state moved elsewhere, with the models next to the original. The header has room."""
    data = state.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].rstrip().replace(MADE_AT.encode(), str(EARLIER).encode())
    assert len(header) <= size
    to.write_bytes(data[:8] + header.ljust(size) + data[8 + size :])


@pytest.mark.parametrize("rule", ["max_magnitude", "dare"])
def test_a_state_made_earlier_is_continued(rule, tmp_path):
    state, output = tmp_path / "state", tmp_path / "merged"
    moved(EARLIER / f"{rule}.begun.state", state)
    model = str(EARLIER / "march.safetensors")
    words = ["merge", "--finetuned", model, "--state", str(state), "--output", str(output)]
    assert main(words) == 0
    moved(EARLIER / f"{rule}.continued.state", expected := tmp_path / "expected")
    for ours, theirs in (
        (output / "model.safetensors", EARLIER / f"{rule}.merged.safetensors"),
        (state, expected),
    ):
        found = load_file(ours)
        assert {n: t.tobytes() for n, t in found.items()} == {
            n: t.tobytes() for n, t in load_file(theirs).items()
        }
    history, made = (
        json.loads(open_files(tmp_path, [path]).metadata["magmax_state"])
        for path in (state, expected)
    )
    for ours, theirs in zip(history["tasks"], made["tasks"], strict=True):  # summed differently
        assert ours.pop("norm") == pytest.approx(theirs.pop("norm"), rel=1e-6)
    assert history == made


def test_a_state_made_earlier_is_inspected(tmp_path, capsys):
    moved(EARLIER / "max_magnitude.begun.state", tmp_path / "state")
    assert main(["inspect", str(tmp_path / "state")]) == 0
    shown = capsys.readouterr().out
    assert "max_magnitude, state of 2 tasks" in shown and "sign conflicts" in shown
