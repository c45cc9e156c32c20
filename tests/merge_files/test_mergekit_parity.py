"""Recipes give mergekit's numbers: of its formulas in NumPy, and of mergekit if it is there.

Set MERGEKIT_PYTHON to a Python with mergekit 0.1.5 to run mergekit itself (slow).
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.merge_files import mergekit_oracle as oracle
from tests.merge_files.conftest import merge
from tests.merge_files.mergekit_cases import (
    DRAWN,
    LAYERS,
    RECIPES,
    SHAPES,
    tensors,
    write_models,
    write_recipe,
)

ROOT = Path(__file__).parents[2]
MODELS = {model: tensors(model) for model in ("base", "a", "b", "c")}
TOLERANCE = 2e-6
"""Of float32 weights below 2: a few roundings."""


def depth(name: str) -> float:
    """Of a tensor's layer, 0 to 1; 0 outside layers, in front of them and behind."""
    return int(name.split(".")[2]) / (LAYERS - 1) if "layers" in name else 0.0


def delta(name: str, model: str) -> np.ndarray:
    return wide(name, model) - wide(name, "base")


def wide(name: str, model: str) -> np.ndarray:
    return MODELS[model][name].astype(np.float64)


def vectors(name: str, *models: str) -> list[np.ndarray]:
    return [wide(name, model) for model in models]


def deltas(name: str, *models: str) -> list[np.ndarray]:
    return [delta(name, model) for model in models]


WEIGHTS, DENSITIES = [0.5, -0.3, 0.9], [0.3, 0.57, 0.8]


def ties(name: str) -> np.ndarray:
    kept = map(oracle.keep_largest, deltas(name, "a", "b", "c"), DENSITIES)
    return oracle.combined(wide(name, "base"), list(kept), WEIGHTS, True, True)


def ties_sum(name: str) -> np.ndarray:
    kept = [oracle.keep_largest(d, 0.29) for d in deltas(name, "a", "b", "c")]
    return oracle.combined(wide(name, "base"), kept, [0.4] * 3, True, factor=2)


def ties_rescaled(name: str) -> np.ndarray:
    kept = [oracle.rescaled(oracle.keep_largest(d, 0.2), d) for d in deltas(name, "a", "b", "c")]
    return oracle.combined(wide(name, "base"), kept, [1, 1, 1], True, True)


def breadcrumbs(name: str) -> np.ndarray:
    kept = [
        oracle.rescaled(oracle.keep_middle(d, density, 0.05), d)
        for d, density in zip(deltas(name, "a", "b", "c"), DENSITIES, strict=True)
    ]
    return oracle.combined(wide(name, "base"), kept, WEIGHTS)


def breadcrumbs_ties(name: str) -> np.ndarray:
    kept = [oracle.keep_middle(d, 0.9, 0.3) for d in deltas(name, "a", "b", "c")]
    return oracle.combined(wide(name, "base"), kept, [0.6] * 3, True)


def gradients(name: str) -> np.ndarray:
    t = depth(name)
    densities = np.interp(t, [0, 0.5, 1], [0.2, 0.9, 0.4]), 0.5
    kept = map(oracle.keep_largest, deltas(name, "a", "b"), densities)
    weights = [t, 1 - t if "mlp" in name else 0.5]
    return oracle.combined(wide(name, "base"), list(kept), weights, True, True)


def slerp_gradient(name: str) -> np.ndarray:
    places = np.linspace(0, 1, 5)
    share = 0.5
    if "self_attn" in name:
        share = float(np.interp(depth(name), places, [0, 0.5, 0.3, 0.7, 1]))
    elif "mlp" in name:
        share = float(np.interp(depth(name), places, [1, 0.5, 0.7, 0.3, 0]))
    return oracle.arc(*vectors(name, "base", "a"), share, 0.9995)


def nuslerp_columns(name: str) -> np.ndarray:
    a, b = vectors(name, "a", "b")
    return oracle.arc_of_rows(a.T, b.T, 1 / 3).T


EXPECTED: dict[str, Callable[[str], np.ndarray]] = {
    "linear": lambda n: oracle.linear(vectors(n, "a", "b", "c"), [1, 2, 0.5]),
    "linear_sum": lambda n: oracle.linear(vectors(n, "a", "b"), [0.7, 0.7], normalize=False),
    "linear_base": lambda n: oracle.linear(vectors(n, "base", "a", "b"), [0.5] * 3),
    "task_arithmetic": lambda n: oracle.combined(
        wide(n, "base"), deltas(n, "a", "b", "c"), WEIGHTS, factor=0.7
    ),
    "ties": ties,
    "ties_sum": ties_sum,
    "ties_rescaled": ties_rescaled,
    "breadcrumbs": breadcrumbs,
    "breadcrumbs_ties": breadcrumbs_ties,
    "model_stock": lambda n: oracle.model_stock(wide(n, "base"), vectors(n, "a", "b", "c")),
    "model_stock_rows": lambda n: oracle.model_stock(
        wide(n, "base"), vectors(n, "a", "b", "c"), rows=True
    ),
    "slerp": lambda n: oracle.arc(*vectors(n, "base", "a"), 0.3, 0.9995),
    "slerp_listed": lambda n: oracle.arc(*vectors(n, "base", "c"), 0.8, 0.9995),
    "nuslerp": lambda n: oracle.arc(*vectors(n, "a", "b"), 0.75, 1.0),
    "nuslerp_base": lambda n: wide(n, "base") + oracle.arc(*deltas(n, "a", "b"), 0.75, 1.0),
    "nuslerp_rows": lambda n: wide(n, "base") + oracle.arc_of_rows(*deltas(n, "a", "b"), 0.5),
    "nuslerp_columns": nuslerp_columns,
    "multislerp": lambda n: oracle.multislerp(vectors(n, "a", "b", "c"), [1, 2, 3]),
    "multislerp_base": lambda n: (
        wide(n, "base")
        + oracle.multislerp(deltas(n, "a", "b", "c"), [0.2, 0.3, 0.4], normalize=False)
    ),
    "sce": lambda n: oracle.sce(wide(n, "base"), vectors(n, "a", "b", "c")),
    "sce_top": lambda n: oracle.sce(wide(n, "base"), vectors(n, "a", "b", "c"), 0.37),
    "gradients": gradients,
    "slerp_gradient": slerp_gradient,
    "linear_filter": lambda n: oracle.linear(
        vectors(n, "a", "b"), [0.2 if "self_attn" in n else 1, 1]
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def merged(recipe: dict, models: Path, directory: Path, *flags) -> dict[str, np.ndarray]:
    directory.mkdir(exist_ok=True)
    path = write_recipe(recipe, models, directory / "recipe.yml")
    out = directory / "out"
    assert merge(path, "--output", out, *flags) == 0
    return load_file(out / "model.safetensors")


def test_every_recipe_has_an_expectation():
    assert EXPECTED.keys() == RECIPES.keys()


FAST = ("linear", "ties", "gradients", "slerp_gradient")
"""In every run of the tests; the others are slow together."""


def some_slow(names) -> list:
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("case", some_slow(RECIPES))
def test_numbers_are_those_of_mergekits_formula(case, models, tmp_path):
    found = merged(RECIPES[case], models, tmp_path)
    assert found.keys() == SHAPES.keys()
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, EXPECTED[case](name), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dare_linear", "della_linear"])
def test_drawn_entries_are_scaled_to_the_l1_norm_of_the_change(case, models, tmp_path):
    """One model of weight 1, so that what was drawn can be seen."""
    recipe = DRAWN["della_linear"] | {"merge_method": case}
    found = merged(recipe, models, tmp_path, "--seed", 3)
    kept = np.concatenate([_kept(found, name).ravel() for name in SHAPES])
    assert abs(kept.mean() - 0.5) < 0.01
    for name in SHAPES:
        change, whole = found[name] - MODELS["base"][name], delta(name, "a")
        yes = _kept(found, name)
        factor = np.abs(whole).sum() / np.abs(whole[yes]).sum()
        np.testing.assert_allclose(change, np.where(yes, factor * whole, 0), rtol=0, atol=TOLERANCE)


def _kept(found: dict[str, np.ndarray], name: str) -> np.ndarray:
    return found[name] != MODELS["base"][name]


@pytest.mark.slow
def test_della_keeps_large_entries_of_an_input_channel_more_often(models, tmp_path):
    """Ranks run along axis 1: density - epsilon for the smallest, density + epsilon the largest."""
    found = merged(DRAWN["della_linear"], models, tmp_path)
    shares = np.zeros(4)
    names = [name for name, shape in SHAPES.items() if len(shape) == 2]
    for name in names:
        ranks = np.abs(delta(name, "a")).argsort(1).argsort(1)
        quarter = 4 * ranks // ranks.shape[1]
        kept = _kept(found, name)
        shares += [kept[quarter == i].mean() / len(names) for i in range(4)]
    np.testing.assert_allclose(shares, 0.5 + 0.15 * np.array([-0.75, -0.25, 0.25, 0.75]), atol=0.03)


@pytest.mark.slow
def test_dare_ties_adds_the_drawn_changes_that_agree(models, tmp_path):
    """Every value is a sum over some of the models, scaled by one number for each tensor."""
    recipe = DRAWN["dare_ties"] | {"parameters": {"rescale": False}}
    found = merged(recipe, models, tmp_path)
    for name in SHAPES:
        votes = [w * d for w, d in zip(WEIGHTS, deltas(name, "a", "b", "c"), strict=True)]
        sums = [0.0]
        for vote in votes:
            sums += [each + vote for each in sums]
        change = found[name] - MODELS["base"][name]
        nearest = np.min([np.abs(change - each) for each in sums], axis=0)
        assert nearest.max() < TOLERANCE


@pytest.mark.parametrize(
    "case",
    ["dare_ties", *(pytest.param(c, marks=pytest.mark.slow) for c in ("della", "dare_linear"))],
)
def test_draws_follow_the_seed(case, models, tmp_path):
    path = write_recipe(DRAWN[case], models, tmp_path / "recipe.yml")
    outs = [tmp_path / name for name in ("one", "again", "other")]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        assert merge(path, "--output", out, "--seed", seed) == 0
    one, again, other = ((out / "model.safetensors").read_bytes() for out in outs)
    assert one == again != other


ROUNDED_ONCE = ("linear", "linear_base", "slerp", "slerp_listed")
"""Recipes that mergekit computes in float32 whatever the inputs are. Others it computes in
bfloat16, where changes are often equal in size, so that other entries may be kept."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "cases", "rtol", "atol"),
    [(np.float32, list(RECIPES), 0, TOLERANCE), (ml_dtypes.bfloat16, ROUNDED_ONCE, 2**-7, 1e-6)],
)
def test_mergekit_itself_writes_these_numbers(dtype, cases, rtol, atol, tmp_path, capfd):
    """In bfloat16 to one unit in the last place. Prints the largest differences."""
    python = os.environ.get("MERGEKIT_PYTHON")
    if not python:
        pytest.skip("MERGEKIT_PYTHON names no Python with mergekit 0.1.5")
    models, arguments = write_models(tmp_path / "models", dtype), []
    for case in cases:
        path = write_recipe(RECIPES[case], models, tmp_path / f"{case}.yml")
        arguments += [path, tmp_path / f"theirs-{case}"]
    script = ROOT / "tests" / "helpers" / "run_mergekit.py"
    subprocess.run([python, script, *arguments], check=True, capture_output=True)
    for case in cases:
        assert merge(tmp_path / f"{case}.yml", "--output", tmp_path / f"ours-{case}") == 0
        ours, theirs = (
            load_file(tmp_path / f"{side}-{case}" / "model.safetensors")
            for side in ("ours", "theirs")
        )
        assert ours.keys() == theirs.keys()
        worst = 0.0
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            one, other = np.float64(ours[name]), np.float64(value)
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol, err_msg=f"{case}: {name}")
            worst = max(worst, np.abs(one - other).max())
        with capfd.disabled():
            print(f"{case:18} {worst:.2g}")


@pytest.mark.parametrize(
    "case", ["linear", *(pytest.param(c, marks=pytest.mark.slow) for c in ("ties", "dare_ties"))]
)
def test_filters_that_match_all_tensors_change_nothing(case, models, tmp_path):
    """With filters every tensor has its own rule; without, all are merged by one."""
    recipe = (RECIPES | DRAWN)[case]
    filtered = recipe | {
        "models": [
            entry | {"parameters": {k: [{"filter": "*", "value": v}] for k, v in own.items()}}
            for entry in recipe["models"]
            if (own := entry["parameters"])
        ]
    }
    one, other = (
        merged(each, models, tmp_path / name)
        for name, each in (("plain", recipe), ("filtered", filtered))
    )
    for name in SHAPES:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-6)
