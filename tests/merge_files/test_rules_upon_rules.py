"""`magmax merge` with rules that wrap another: scaling by depth, and matching a norm."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from tests.merge_files.conftest import merge, sources, write

NAMES = ["embed.weight", *(f"encoder.layer.{i}.{part}" for i in range(4) for part in ("w", "b"))]


def tensors(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(5, 3)).astype(np.float32) for name in NAMES}


@pytest.fixture
def flags(tmp_path) -> list:
    made = [write(tmp_path / f"theta_{seed}", tensors(seed)) for seed in range(3)]
    return ["--rule", "lines", "--pretrained", made[0], "--finetuned", *made[1:]]


def found(directory) -> dict[str, np.ndarray]:
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], mm.rules.lines()),
        (["rule=ema", "alpha=0.1", "beta=0.7"], mm.rules.lines("ema", 0.1, 0.7)),
        (["rule=ties"], mm.rules.lines("ties")),
        (["rule=opcm", "layers=4"], mm.rules.lines("opcm", layers=4)),
        (["rule=dare", "layers=6"], mm.rules.lines("dare", layers=6, seed=3)),
    ],
)
def test_files_are_merged_with_the_bits_of_memory(flags, tmp_path, options, rule):
    given = ["--options", *options] if options else []
    assert merge(*flags, "--seed", 3, *given, "--output", tmp_path / "out") == 0
    expected = mm.merge(tensors(0), [tensors(1), tensors(2)], rule)
    jax.tree.map(np.testing.assert_array_equal, found(tmp_path / "out"), expected)


def test_a_state_continues_if_the_number_of_layers_is_given(flags, tmp_path, capsys):
    first, second = flags[:-1], [*flags[:4], "--finetuned", flags[-1]]
    state = ["--state", tmp_path / "state.safetensors"]
    assert merge(*first, *state, "--output", tmp_path / "no") == 2
    assert "lines" in capsys.readouterr().err and not (tmp_path / "no").exists()
    options = ["--options", "rule=ema", "layers=4"]
    assert merge(*first, *state, *options, "--output", tmp_path / "one") == 0
    assert merge(*second, *state, "--output", tmp_path / "two") == 0
    expected = mm.merge(tensors(0), [tensors(1), tensors(2)], mm.rules.lines("ema", layers=4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found(tmp_path / "two"), expected
    )


def test_models_without_layers_are_refused(tmp_path, capsys):
    made = [
        write(tmp_path / f"theta_{i}", {"conv.weight": np.full(3, i, np.float32)}) for i in (0, 1)
    ]
    given = ["--rule", "lines", "--pretrained", made[0], "--finetuned", made[1]]
    assert merge(*given, "--output", tmp_path / "out") == 2
    assert "lines finds no layers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["rule=average"], ["rule=magnitude_prune"]])
def test_a_matched_norm_equals_the_one_in_memory_and_its_state_continues(models, tmp_path, options):
    given = (
        ["--rule", "norm_matched", "--options", *options] if options else ["--rule", "norm_matched"]
    )
    base, *rest = models
    state = ["--pretrained", base, "--state", tmp_path / "state.safetensors"]
    assert merge(*sources(models), *given, "--output", tmp_path / "all") == 0
    for i, model in enumerate(rest):
        assert merge(*state, "--finetuned", model, *given, "--output", tmp_path / f"to_{i}") == 0
    together, one_by_one = found(tmp_path / "all"), found(tmp_path / "to_2")
    jax.tree.map(np.testing.assert_array_equal, together, one_by_one)
