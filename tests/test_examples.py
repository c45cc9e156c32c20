"""Examples run unmodified."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def run(name: str, cwd: Path) -> str:
    """Runs an example and returns its output."""
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_experiment_from_arrays_draws_its_rows(tmp_path):
    example = ROOT / "examples" / "from_arrays.py"
    assert len(example.read_text().splitlines()) <= 30
    for _ in range(2):  # the second one finds the run finished
        shown = run("from_arrays.py", tmp_path)
        picture = Image.open(tmp_path / "runs" / "from_arrays" / "accuracies.png")
        assert picture.size == (900, 600) and len(picture.convert("L").getcolors(256)) > 50
    assert "already contains this run" in shown


def test_one_class_is_forgotten_and_the_others_are_kept(tmp_path):
    _, *lines = run("forget_a_class.py", tmp_path).splitlines()
    table = {line[:20].rstrip(): [float(cell) for cell in line[20:].split()] for line in lines}
    (_, known, others), *merged = table.values()
    assert list(table)[-2:] == ["average", "negmerge"] and len(merged) == 3
    assert known > 85 and others > 90
    for scale, forgotten, kept in merged:
        assert scale < 0 and forgotten < known - 40 and kept > others - 8
