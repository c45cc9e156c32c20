"""`merge` and task vectors inside a caller's `jit`, `vmap` and `grad`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from tests.merging.cases import EVERY, models, theta

SOME = ["max_magnitude", "iso_c"]
EVERY_RULE = [
    pytest.param(name, marks=[] if name in SOME else pytest.mark.slow, id=name) for name in EVERY
]


def given(name: str) -> tuple:
    """theta_0 and models of JAX arrays for the named rule."""
    return jax.tree.map(jnp.asarray, (theta(0), models(name)))


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), actual, expected
    )


@pytest.mark.parametrize("name", EVERY_RULE)
def test_jit_and_vmap_match_plain_calls(name):
    theta_0, tasks = given(name)
    rule = EVERY[name]
    expected = mm.merge(theta_0, tasks, rule)
    assert_close(jax.jit(lambda a, b: mm.merge(a, b, rule))(theta_0, tasks), expected)
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tasks)
    mapped = jax.vmap(lambda tasks: mm.merge(theta_0, tasks, rule))(several)
    assert_close(jax.tree.map(lambda leaf: leaf[1], mapped), expected)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_gradients_reach_theta_0_the_models_and_the_scale(name):
    theta_0, tasks = given(name)

    def loss(theta_0, tasks, scale):
        merged = mm.merge(theta_0, tasks, EVERY[name], scale)
        return jnp.sum(merged["block.kernel"] ** 2)

    found = jax.grad(loss, argnums=(0, 1, 2), allow_int=True)(theta_0, tasks, 0.5)
    of_theta_0, of_tasks, of_scale = found
    assert np.any(of_theta_0["block.kernel"]) and np.any(of_scale)
    assert any(np.any(x) for x in jax.tree.leaves(of_tasks) if x.dtype == jnp.float32)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found) if x.dtype == jnp.float32)


def test_the_gradient_of_max_magnitude_goes_to_the_task_that_supplied_the_entry():
    theta_0, tasks = jnp.zeros(2), [jnp.array([3.0, 1.0]), jnp.array([-1.0, -2.0])]
    to = jax.grad(lambda tasks, s: jnp.sum(mm.merge(theta_0, tasks, scale=s)), argnums=(0, 1))
    (first, second), of_scale = to(tasks, 0.5)
    np.testing.assert_array_equal(first, [0.5, 0])
    np.testing.assert_array_equal(second, [0, 0.5])
    assert of_scale == 3 - 2


def test_scales_can_be_vmapped():
    theta_0, tasks = {"w": jnp.zeros(2)}, [{"w": jnp.array([1.0, -2.0])}]
    merged = jax.vmap(lambda scale: mm.merge(theta_0, tasks, scale=scale))(jnp.array([0.0, 1, 2]))
    np.testing.assert_array_equal(merged["w"], [[0, 0], [1, -2], [2, -4]])


def test_a_traced_model_may_be_merged_with_a_numpy_theta_0():
    theta_0 = {"w": np.array([1.0, 2.0]), "n": 3, "f": jnp.tanh}
    merge = jax.jit(lambda w: mm.merge(theta_0, [{"w": w, "n": 4, "f": None}])["w"])
    np.testing.assert_array_equal(merge(jnp.array([3.0, 2.0])), [2.0, 2.0])


def test_tracing_checks_shapes_and_dtypes_but_not_values():
    theta_0 = {"w": jnp.ones(2)}
    merge = jax.jit(lambda model: mm.merge(theta_0, [model]))
    with pytest.raises(UserError, match=r"\['w'\] has shape \(3,\), not \(2,\)"):
        merge({"w": jnp.ones(3)})
    assert np.isnan(merge({"w": jnp.array([jnp.nan, 1.0])})["w"][0])
