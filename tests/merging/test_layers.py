"""LiNeS: scaling by depth, the same for numbered and for stacked layers."""

import jax
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.merging.cases import normal_taus

LAYERS = 3


def stacked(seed: int) -> dict[str, np.ndarray]:
    """A tower in our layout: layers along the first axis."""
    random = np.random.default_rng(seed)
    shapes = {"patch_embedding": (6, 4), "blocks.fc1.kernel": (LAYERS, 4, 5),
              "blocks.fc1.bias": (LAYERS, 5), "projection": (4, 2)}  # fmt: skip
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def numbered(tree: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tower in Hugging Face's layout."""
    parts = {}
    for name, leaf in tree.items():
        if not name.startswith("blocks."):
            parts[f"vision_model.{name}"] = leaf
            continue
        for i, layer in enumerate(leaf):
            parts[f"vision_model.encoder.layers.{i}.mlp.{name.removeprefix('blocks.')}"] = layer
    return parts


@pytest.mark.parametrize("rule", ["max_magnitude", "ema", "ties", "magnitude_prune"])
def test_every_leaf_is_scaled_by_its_depth(rule):
    theta_0, tasks = stacked(0), [stacked(seed) for seed in (1, 2, 3)]
    found, plain = (
        mm.task_vector(mm.merge(theta_0, tasks, each, scale=1.0), theta_0)
        for each in (rules.lines(rule, alpha=0.2, beta=0.6), rule)
    )
    depth = np.array([0.2, 0.5, 0.8])
    for name, leaf in plain.items():
        shares = depth.reshape(-1, *(1,) * (leaf.ndim - 1)) if "blocks" in name else 0.2
        np.testing.assert_allclose(found[name], shares * leaf, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"layers": LAYERS}])
def test_numbered_layers_give_the_same_bits_as_stacked_ones(options):
    theta_0, *tasks = (stacked(seed) for seed in range(4))
    rule = rules.lines("max_magnitude", **options)
    whole = numbered(jax.tree.map(np.asarray, mm.merge(theta_0, tasks, rule)))
    parts = mm.merge(numbered(theta_0), [numbered(task) for task in tasks], rule)
    assert whole.keys() == parts.keys()
    for name in parts:
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)


def test_one_fine_tuned_model_keeps_half_of_its_first_layer_and_all_of_its_last():
    theta_0, model = (
        {"layers": list(normal_taus(4, 3))},
        {"layers": list(normal_taus(4, 3, seed=1))},
    )
    merged = mm.merge(theta_0, [model], "lines")["layers"]
    for i, share in enumerate((1 / 2, 2 / 3, 5 / 6, 1)):
        expected = theta_0["layers"][i] + share * (model["layers"][i] - theta_0["layers"][i])
        np.testing.assert_allclose(merged[i], expected, atol=1e-6)


def test_layers_are_counted_per_tower():
    names = [
        f"{tower}.{i}.w" for tower, n in (("a.layer", 2), ("b.resblocks", 3)) for i in range(n)
    ]
    tau = {name: np.ones(2, np.float32) for name in names}
    rule = rules.lines(alpha=0.0, beta=1.0)
    merged = rule.finalize(rule.update(rule.init(tau), tau))
    assert [float(merged[name][0]) for name in names] == [0.0, 1.0, 0.0, 0.5, 1.0]


def test_models_without_layers_and_too_few_layers_are_refused():
    def model(name: str) -> dict[str, np.ndarray]:
        return {name: np.ones(2, np.float32)}

    with pytest.raises(UserError, match="lines finds no layers"):
        mm.merge(model("conv.weight"), [model("conv.weight")], "lines")
    deep = model("layers.7.weight")
    with pytest.raises(UserError, match=r"lines: layers is 6, but there is layers\.7\.weight"):
        mm.merge(deep, [deep], rules.lines(layers=6))


def test_it_composes_with_a_matched_norm():
    theta_0, *tasks = (stacked(seed) for seed in range(4))
    both = rules.lines(rules.norm_matched("max_magnitude"))
    first, then = mm.merge(theta_0, tasks, both), rules.norm_matched("max_magnitude")
    matched = mm.task_vector(mm.merge(theta_0, tasks, then), theta_0)
    found = mm.task_vector(first, theta_0)
    np.testing.assert_allclose(found["projection"], 0.5 * matched["projection"], atol=1e-6)
    np.testing.assert_allclose(
        found["blocks.fc1.bias"][-1], matched["blocks.fc1.bias"][-1], atol=1e-6
    )
