"""What a merged pytree may contain: functions, strings, static fields, arrays of any kind."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import fold, merged
from tests.merging.cases import EVERY, models, theta

RULES = ["max_magnitude", "ties", "average"]


@jax.tree_util.register_dataclass
@dataclass
class Layer:
    """Like an Equinox module: a function among the leaves, and static fields."""

    w: Any
    activation: Any = jax.nn.relu
    tag: Any = field(default="a", metadata={"static": True})


def layer(value: float, **given) -> dict:
    return {"layer": Layer(jnp.full(3, value), **given), "name": "model", "none": None}


@pytest.mark.parametrize("rule", RULES)
def test_leaves_that_are_not_arrays_are_theta_0s(rule):
    theta_0 = layer(1.0, tag="theta_0")
    models = [layer(value, activation=jnp.tanh, tag="other") for value in (3.0, 2.0)]
    theta, state = mm.merge(theta_0, models, rule, scale=1.0, return_state=True)
    plain = mm.merge(jnp.full(3, 1.0), [jnp.full(3, 3.0), jnp.full(3, 2.0)], rule, scale=1.0)
    np.testing.assert_array_equal(theta["layer"].w, plain)
    assert theta["layer"].activation is jax.nn.relu and theta["layer"].tag == "theta_0"
    assert theta["name"] == "model" and theta["none"] is None
    np.testing.assert_array_equal(theta_0["layer"].w, np.ones(3))
    more = fold(mm.rules.named(rule), state, models[0], theta_0)
    assert merged(mm.rules.named(rule), more, theta_0, 1.0)["layer"].activation is jax.nn.relu


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tag", [object, lambda: {"a": []}, lambda: np.arange(3)])
def test_static_fields_need_be_neither_equal_nor_hashable_nor_comparable(rule, tag):
    theta_0, *models = (layer(value, tag=tag()) for value in (1.0, 3.0, 2.0))
    theta = mm.merge(theta_0, models, rule)
    expected = mm.merge(layer(1.0), [layer(3.0), layer(2.0)], rule)
    np.testing.assert_array_equal(theta["layer"].w, expected["layer"].w)
    assert theta["layer"].tag is theta_0["layer"].tag


def test_a_task_vector_holds_only_arrays_and_applies_to_the_whole_tree():
    theta_0 = layer(1.0)
    tau = mm.task_vector(layer(3.0, tag="b"), theta_0)
    assert tau["name"] is None and tau["layer"].activation is None
    doubled = mm.apply_task_vector(theta_0, jax.tree.map(lambda x: 2 * x, tau), 0.5)
    np.testing.assert_array_equal(doubled["layer"].w, np.full(3, 3.0))
    assert doubled["layer"].activation is jax.nn.relu and doubled["name"] == "model"


def test_arrays_are_matched_by_path_and_merged_in_theta_0s_order():
    a, b = np.float32([1, 2]), np.float32([3])
    theta_0 = OrderedDict(b=0 * b, a=0 * a)
    theta = mm.merge(theta_0, [OrderedDict(a=a, b=b)], scale=1.0)
    assert list(theta) == ["b", "a"] and isinstance(theta, OrderedDict)
    np.testing.assert_array_equal(theta["a"], a)
    np.testing.assert_array_equal(theta["b"], b)


def test_differing_containers_are_named_by_path():
    theta_0 = {"a": [jnp.ones(2)], "b": {"c": jnp.ones(2)}}
    model = {"a": (jnp.ones(2),), "b": FrozenDict(c=jnp.ones(2))}
    with pytest.raises(UserError) as raised:
        mm.merge(theta_0, [model])
    assert "['a'] is a tuple, not a list" in str(raised.value)
    assert "['b'] is a FrozenDict, not a dict" in str(raised.value)
    assert "PyTreeDef" not in str(raised.value)


def test_at_most_twenty_leaves_are_named():
    theta_0 = {f"leaf {i}": jnp.ones(2) for i in range(30)}
    with pytest.raises(UserError) as raised:
        mm.merge(theta_0, [{}])
    assert str(raised.value).count("missing") == 20
    assert str(raised.value).endswith("and 10 more")
    with pytest.raises(UserError, match=r"(?s)30 leaves hold NaN.*and 10 more"):
        mm.merge(theta_0, [jax.tree.map(lambda x: x * np.nan, theta_0)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16,
                                   ml_dtypes.float8_e4m3fn])  # fmt: skip
def test_numpy_arrays_are_returned_as_numpy_arrays_of_their_dtype(dtype):
    theta_0 = {"w": np.ones(3, dtype), "scalar": np.array(2, dtype), "jax": jnp.ones(2)}
    model = {"w": np.array([1, 2, 3], dtype), "scalar": np.array(4, dtype), "jax": jnp.zeros(2)}
    theta = mm.merge(theta_0, [model], scale=1.0)
    assert isinstance(theta["jax"], jax.Array)
    for name in ("w", "scalar"):
        assert type(theta[name]) is np.ndarray and theta[name].dtype == dtype
        np.testing.assert_array_equal(theta[name], model[name])
    again = mm.apply_task_vector(theta_0, mm.task_vector(model, theta_0))
    assert type(again["w"]) is np.ndarray and again["w"].dtype == dtype


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("rule", RULES)
def test_arrays_of_the_other_byte_order_merge_to_the_same_numbers(rule, dtype):
    """As np.frombuffer, FITS and NetCDF files give them; JAX takes the machine's order only."""
    random = np.random.default_rng(0)
    little = [{"w": random.standard_normal((4, 3)).astype(f"<{dtype}")} for _ in range(4)]
    big = [{"w": tree["w"].astype(f">{dtype}")} for tree in little]
    expected = mm.merge(little[0], little[1:], rule)["w"]
    for others in (big[1:], little[1:]):
        found = mm.merge(big[0], others, rule)["w"]
        assert found.dtype == f">{dtype}"
        np.testing.assert_array_equal(found, expected)
    tau, same = (mm.task_vector(trees[1], trees[0]) for trees in (little, big))
    np.testing.assert_array_equal(same["w"], tau["w"])
    np.testing.assert_array_equal(
        mm.apply_task_vector(big[0], same, 0.5)["w"], mm.apply_task_vector(little[0], tau, 0.5)["w"]
    )
    streamed, chosen = [], mm.rules.max_magnitude()
    for trees in (little, big):
        state = chosen.init(trees[0])
        for tree in trees[1:]:
            state = fold(chosen, state, tree, trees[0])
        streamed.append(merged(chosen, state, trees[0], 0.5)["w"])
    np.testing.assert_array_equal(*streamed)
    assert mm.analysis.norm(big[1]) == mm.analysis.norm(little[1])


def test_float64_is_preserved_and_subtracted_in_float64():
    theta_0 = {"w": np.array([0.1, 1e10, 0.1]), "x": 0.1, "y": np.float64(0.1)}
    model = {"w": np.array([0.1, 1e10 + 1, 0.6]), "x": 0.1, "y": np.float64(0.1)}
    theta = mm.merge(theta_0, [model], scale=1.0)
    np.testing.assert_array_equal(theta["w"], [0.1, 1e10 + 1, 0.1 + 0.5])
    assert (type(theta["x"]), theta["x"]) == (float, 0.1)
    assert (type(theta["y"]), theta["y"]) == (np.float64, 0.1)
    assert mm.task_vector(model, theta_0)["w"].dtype == np.float32


def test_non_float_leaves_are_theta_0s():
    key = jax.random.key(0)
    theta_0 = {"w": jnp.ones(2), "n": 3, "on": np.array([True]), "key": key, "text": np.array("a")}
    other = {"w": jnp.ones(2), "n": 5, "on": np.array([False]), "key": jax.random.key(1)}
    theta = mm.merge(theta_0, [other | {"text": np.array("b")}])
    assert theta["n"] == 3 and theta["on"] == [True] and theta["text"] == "a"
    assert theta["on"] is not theta_0["on"]  # NumPy arrays stay writable
    assert jnp.array_equal(jax.random.key_data(theta["key"]), jax.random.key_data(key))


def test_complex_arrays_and_those_of_another_library_are_refused():
    with pytest.raises(UserError, match=r"theta_0: .*\n.*\['w'\] is complex64: merge its real"):
        mm.merge({"w": jnp.ones(2, jnp.complex64)}, [{"w": jnp.ones(2, jnp.complex64)}])

    class Tensor:
        shape, dtype = (2,), "float32"

    with pytest.raises(UserError, match=r"\['v'\] is a tests.*Tensor: convert it to a NumPy"):
        mm.merge({"w": jnp.ones(2), "v": Tensor()}, [{"w": jnp.ones(2), "v": Tensor()}])


def test_an_nnx_module_gives_a_new_module_that_computes():
    class Net(nnx.Module):
        def __init__(self, seed: int):
            rngs = nnx.Rngs(seed)
            self.linear, self.norm = nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
            self.dropout, self.rngs = nnx.Dropout(0.5, rngs=rngs), rngs

        def __call__(self, x):
            return self.dropout(self.norm(self.linear(x)), rngs=self.rngs)

    theta_0, model, x = Net(0), Net(1), jnp.ones((4, 2))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(theta_0, nnx.Param)))
    model(x)  # advances the draw counter and the statistics
    theta = mm.merge(theta_0, [model], scale=1.0)
    assert isinstance(theta, Net) and theta is not theta_0 and theta.linear is not theta_0.linear
    np.testing.assert_allclose(theta.linear.kernel[...], model.linear.kernel[...], atol=1e-6)
    np.testing.assert_allclose(theta.norm.mean[...], model.norm.mean[...], atol=1e-6)
    count = theta.rngs.default.count[...]
    assert count == theta_0.rngs.default.count[...] != model.rngs.default.count[...]
    theta(x)
    assert theta.rngs.default.count[...] == count + 1
    after = nnx.to_pure_dict(nnx.state(theta_0, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert theta_0.rngs.default.count[...] == count


def test_two_clips_merge_to_one_that_can_be_saved(tiny_clip, tmp_path):
    theta_0, model = (mm.CLIP.from_pretrained(tiny_clip) for _ in range(2))
    model.logit_scale[...] = theta_0.logit_scale[...] + 1
    mm.merge(theta_0, [model]).save_pretrained(tmp_path / "merged")
    again = mm.CLIP.from_pretrained(tmp_path / "merged")
    assert again.logit_scale[...] == theta_0.logit_scale[...] + 0.5
    assert again.tokenize(["a"]).shape == theta_0.tokenize(["a"]).shape


@pytest.mark.parametrize("rule", ["global_prune", "dare"])
def test_enabling_x64_changes_no_draw_and_no_threshold(rule):
    theta_0, tasks = theta(0), models(rule)
    expected = mm.merge(theta_0, tasks, EVERY[rule])
    with jax.enable_x64(True):
        again = mm.merge(theta_0, tasks, EVERY[rule])
        exact = mm.merge(jnp.array([0.1, 1e10]), [jnp.array([0.1, 1e10 + 1])], scale=1.0)
        assert exact.dtype == jnp.float64 and exact[0] == 0.1 and exact[1] == 1e10 + 1
    jax.tree.map(np.testing.assert_array_equal, again, expected)
