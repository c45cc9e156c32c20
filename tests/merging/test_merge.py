"""`merge`: the composition, its memory, its errors."""

import gc
import weakref
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import fold
from tests.helpers.compilations import compilations


def random_models(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"w": random.normal(size=(4, 3)).astype(np.float32)} for _ in range(count)]


def test_the_default_is_the_papers_max_magnitude_at_one_half():
    theta_0, a, b = random_models(3)
    tau_a, tau_b = a["w"] - theta_0["w"], b["w"] - theta_0["w"]
    tau = np.where(np.abs(tau_b) >= np.abs(tau_a), tau_b, tau_a)
    expected = theta_0["w"] + np.float32(0.5) * tau
    np.testing.assert_array_equal(mm.merge(theta_0, [a, b])["w"], expected)


def test_one_model_merges_to_itself_and_scale_zero_is_the_pretrained():
    theta_0, model = random_models(2)
    merged = mm.merge(theta_0, [model], scale=1.0)["w"]
    np.testing.assert_allclose(merged, model["w"], rtol=0, atol=3e-7)  # a - b + b rounds
    np.testing.assert_array_equal(mm.merge(theta_0, [model], scale=0.0)["w"], theta_0["w"])


def test_a_generator_never_has_two_models_in_memory():
    theta_0 = {"w": jnp.zeros(10)}
    alive: list[weakref.ref] = []

    def models():
        for value in range(4):
            gc.collect()
            assert not any(ref() for ref in alive), "the model before is still held"
            leaf = jnp.full(10, float(value))
            alive.append(weakref.ref(leaf))
            yield {"w": leaf}
            del leaf

    np.testing.assert_array_equal(mm.merge(theta_0, models(), scale=1.0)["w"], np.full(10, 3.0))
    assert len(alive) == 4


def test_theta_0_and_the_models_are_unchanged_by_the_merge():
    theta_0, *models = random_models(3)
    on_device = jax.tree.map(jnp.asarray, (theta_0, models))
    mm.merge(on_device[0], on_device[1])
    jax.tree.map(np.testing.assert_array_equal, on_device, (theta_0, models))


def test_no_models_and_a_foreign_model_are_refused():
    theta_0, model = random_models(2)
    with pytest.raises(UserError, match="no models to merge"):
        mm.merge(theta_0, [])
    with pytest.raises(UserError, match=r"(?s)model 2: .*\['v'\]"):
        mm.merge(theta_0, [model, {"v": model["w"]}])


def test_nan_and_infinity_are_refused_with_the_leaves_path():
    theta_0, good, bad = random_models(3)
    for value in (np.nan, np.inf, -np.inf):
        bad["w"][2, 1] = value
        with pytest.raises(UserError, match=r"(?s)model 2: 1 leaf holds NaN.*\['w'\]"):
            mm.merge(theta_0, [good, bad])
        with pytest.raises(UserError, match=r"(?s)theta_0: 1 leaf holds NaN.*\['w'\]"):
            mm.merge(bad, [good])
        with pytest.raises(UserError, match=r"(?s)model 1: 1 leaf holds NaN.*\['w'\]"):
            mm.merge(theta_0, [mm.rules.Informed(good, bad)], mm.rules.fisher())


def test_fisher_needs_informed_models_of_theta_0s_shapes():
    theta_0, model = random_models(2)
    with pytest.raises(UserError, match="fisher needs every model as"):
        mm.merge(theta_0, [model], mm.rules.fisher())
    with pytest.raises(UserError, match=r"(?s)model 1: .*missing \['w'\]"):
        mm.merge(theta_0, [mm.rules.Informed(model, {})], mm.rules.fisher())


def test_a_collecting_rule_holds_every_task_vector_and_no_model():
    theta_0, *models = random_models(4)
    rule = mm.rules.ties()
    state = rule.init(theta_0)
    for model in models:
        state = fold(rule, state, model, theta_0)
    for tau, model in zip(state, models, strict=True):
        np.testing.assert_array_equal(tau["w"], model["w"] - theta_0["w"])


def test_a_merge_that_is_not_finite_is_refused():
    theta_0 = {"w": jnp.zeros(3, jnp.float16)}
    large = {"w": jnp.full(3, 60000, jnp.float16)}
    with pytest.raises(UserError, match=r"(?s)the merged model: .*\['w'\]"):
        mm.merge(theta_0, [large, large], mm.rules.task_arithmetic(), scale=1.0)
    _, *models = random_models(4)
    with pytest.raises(UserError, match="2 weights for 3 models: give one for each model"):
        mm.merge(models[0], models, mm.rules.weighted_average([1.0, 1.0]))


def test_fifty_tasks_compile_once():
    theta_0, *models = random_models(6)
    rule = mm.rules.ema(0.123)  # a fresh rule, so nothing is compiled yet
    state = rule.init(theta_0)
    with compilations() as compiled:
        for model in models:
            state = fold(rule, state, model, theta_0)
    assert len(compiled) == 1


def test_nnx_states_and_dataclasses_merge_like_dicts():
    @jax.tree_util.register_dataclass
    @dataclass
    class Layer:
        w: jax.Array

    dicts = random_models(3)
    for rule in (mm.rules.random_mix(), mm.rules.ties(), mm.rules.max_magnitude()):
        expected = mm.merge(dicts[0], dicts[1:], rule)["w"]
        layers = [Layer(**tree) for tree in dicts]
        np.testing.assert_array_equal(mm.merge(layers[0], layers[1:], rule).w, expected)
        states = [nnx.State({"w": nnx.Param(jnp.asarray(tree["w"]))}) for tree in dicts]
        merged = mm.merge(states[0], states[1:], rule)
        assert isinstance(merged, nnx.State)
        if rule is not mm.rules.random_mix():  # draws depend on the leaf's name, here w.value
            np.testing.assert_array_equal(merged["w"][...], expected)
