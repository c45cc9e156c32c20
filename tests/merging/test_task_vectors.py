"""Task vectors: exact arithmetic, every kind of pytree, errors that name mismatches."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax import apply_task_vector, task_vector
from magmax_jax.errors import UserError
from magmax_jax.merging import check_finite


def test_difference_then_addition_is_exact_for_small_integers():
    theta_0 = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
    theta = {"w": theta_0["w"] * 3, "b": -theta_0["b"]}
    tau = task_vector(theta, theta_0)
    np.testing.assert_array_equal(tau["w"], theta_0["w"] * 2)
    jax.tree.map(np.testing.assert_array_equal, apply_task_vector(theta_0, tau), theta)


def test_scale_zero_returns_the_pretrained_bits():
    theta_0 = {"w": jax.random.normal(jax.random.key(0), (50,))}
    tau = {"w": jax.random.normal(jax.random.key(1), (50,))}
    np.testing.assert_array_equal(apply_task_vector(theta_0, tau, 0.0)["w"], theta_0["w"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_differences_are_float32_and_results_have_the_pretrained_dtype(dtype):
    theta_0, theta = jnp.array([1.0, 2.0], dtype), jnp.array([1.5, 0.0], dtype)
    tau = task_vector(theta, theta_0)
    assert tau.dtype == jnp.float32
    merged = apply_task_vector(theta_0, tau, 0.5)
    assert merged.dtype == dtype
    np.testing.assert_array_equal(merged, jnp.array([1.25, 1.0], dtype))


def test_integers_and_flags_are_passed_through():
    theta_0 = {"w": np.ones(2, np.float32), "step": np.int32(7), "on": np.array([True, False])}
    theta = {"w": np.zeros(2, np.float32), "step": np.int32(9), "on": np.array([False, False])}
    merged = apply_task_vector(theta_0, task_vector(theta, theta_0))
    assert merged["step"] == 7 and merged["step"].dtype == np.int32
    np.testing.assert_array_equal(merged["on"], theta_0["on"])
    np.testing.assert_array_equal(merged["w"], theta["w"])


def test_nnx_states_and_dataclasses_are_pytrees_too():
    @jax.tree_util.register_dataclass
    @dataclass
    class Layer:
        kernel: jax.Array

    layer = task_vector(Layer(jnp.ones(2)), Layer(jnp.zeros(2)))
    assert isinstance(layer, Layer)
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    assert isinstance(task_vector(state, state), nnx.State)


def test_every_differing_leaf_is_named():
    theta_0 = {"a": jnp.zeros(2), "b": jnp.zeros((2, 2)), "c": jnp.zeros(1)}
    theta = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2)), "d": jnp.zeros(1)}
    with pytest.raises(UserError) as raised:
        task_vector(theta, theta_0)
    message = str(raised.value)
    assert "3 leaves differ" in message
    assert "['a'] has shape (3,), not (2,)" in message
    assert "missing ['c']" in message and "unexpected ['d']" in message
    assert "['b']" not in message


def test_differing_dtypes_and_containers_are_all_named():
    theta_0 = {"a": jnp.zeros(2), "b": jnp.zeros(2, jnp.bfloat16), "n": jnp.int32(0)}
    theta = {"a": jnp.zeros(2, jnp.float16), "b": jnp.zeros(3), "n": jnp.float32(0)}
    with pytest.raises(UserError) as raised:
        task_vector(theta, theta_0)
    message = str(raised.value)
    assert "3 leaves differ" in message
    assert "['a'] has dtype float16, not float32" in message
    assert "['b'] has shape (3,), not (2,)" in message
    assert "['n'] has dtype float32, not int32" in message
    with pytest.raises(UserError, match="differ in their containers"):
        task_vector((jnp.zeros(2),), [jnp.zeros(2)])


def test_non_finite_leaves_are_all_named():
    bad = {"a": jnp.array([1.0, jnp.nan]), "b": {"c": jnp.array(jnp.inf)}, "n": jnp.int32(1)}
    with pytest.raises(UserError) as raised:
        check_finite(bad | {"good": jnp.ones(3)})
    message = str(raised.value)
    assert "2 leaves" in message and "['a']" in message and "['b']['c']" in message
    assert "good" not in message
    check_finite({"a": jnp.array([1.0, -3e38])})
