"""The command `magmax merge`."""

import sys
from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.cli.main import main
from tests.helpers.imports import SLOW, imported


@pytest.fixture(scope="module")
def finetuned(tiny_clip, tmp_path_factory):
    """Two models close to theta_0."""
    directories = []
    for seed in range(2):
        model = mm.CLIP.from_pretrained(tiny_clip)
        leaves, treedef = jax.tree.flatten(nnx.state(model))
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        nnx.update(model, jax.tree.unflatten(treedef, moved))
        directories.append(tmp_path_factory.mktemp("finetuned") / str(seed))
        model.save_pretrained(directories[-1])
    return directories


def states(directories):
    return [nnx.state(mm.CLIP.from_pretrained(directory)) for directory in directories]


@pytest.mark.parametrize(("flags", "rule", "scale"), [
    ([], mm.rules.max_magnitude(), 0.5),
    (["--rule", "average", "--scale", "0.8"], mm.rules.average(), 0.8),
    (["--rule", "ties"], mm.rules.ties(), 0.55),
])  # fmt: skip
def test_it_writes_what_the_library_merges(tiny_clip, finetuned, tmp_path, flags, rule, scale):
    output = tmp_path / "merged"
    sources = ["--pretrained", str(tiny_clip), "--finetuned", *map(str, finetuned)]
    assert main(["merge", *sources, "--output", str(output), *flags]) == 0
    theta_0, *models = states([tiny_clip, *finetuned])
    expected = mm.merge(theta_0, models, rule, scale)
    # Compiled in different pieces, a sum may round its last bit differently.
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
    jax.tree.map(close, states([output])[0], expected)
    assert mm.CLIP.from_pretrained(output).tokenizer("a")["input_ids"] == [256, 64, 257]


def test_invalid_input_exits_with_two_and_writes_nothing(tiny_clip, finetuned, tmp_path, capsys):
    output = tmp_path / "merged"
    base = ["merge", "--pretrained", str(tiny_clip), "--output", str(output), "--finetuned"]
    for wrong, words in [
        ([str(tmp_path / "none")], "none"),
        ([], "--finetuned is missing"),
        ([str(finetuned[0]), "--rule", "tyes"], "is not a merge rule"),
    ]:
        assert main([*base, *wrong]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_it_never_overwrites_a_model(tiny_clip, finetuned, tmp_path, capsys):
    (tmp_path / "precious").write_text("")
    arguments = ["--pretrained", str(tiny_clip), "--finetuned", str(finetuned[0])]
    assert main(["merge", *arguments, "--output", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import magmax_jax", set()),
        ("from magmax_jax import merge, rules", set()),
        (
            "from magmax_jax import CLIP",
            {"PIL", "jax", "flax", "optax", "orbax", "huggingface_hub"},
        ),
    ],
)
def test_an_import_loads_only_what_it_needs(program, allowed):
    assert imported("-c", program) & SLOW <= allowed


def test_a_terminal_gets_a_progress_bar_and_a_file_none(
    tiny_clip, finetuned, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TERM", "xterm")
    words = ["merge", "--pretrained", str(tiny_clip), "--finetuned", str(finetuned[0])]
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=terminal: shown)
        assert main([*words, "--output", str(tmp_path / f"{terminal}.safetensors")]) == 0
        assert ("merging" in capsys.readouterr().err) == terminal
