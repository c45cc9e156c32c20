"""Quantised task vectors: values, error bounds, and what stays exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.merging import task_vector
from magmax_jax.merging.quantised import (
    CODE_BITS,
    GROUP,
    dequantise,
    quantise,
    quantised_shapes,
)
from magmax_jax.merging.task_vectors import tree_bytes
from magmax_jax.models import abstract_model
from magmax_jax.registry import MODEL_FAMILIES

LARGEST = {8: 63, 4: 7, 3: 3}
SHAPES = [(), (1,), (5,), (2, 195), (3, 7, 64), (2, 129)]


def draw(seed: int, shape: tuple[int, ...], width: float = 1e-3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(scale=width, size=shape), jnp.float32)


def steps(x: np.ndarray, bits: int) -> np.ndarray:
    """Distance of neighbouring codes for every entry: max |x| / L of its group, plus 1/256 of it
    where rounding to bfloat16 goes up."""
    rows = np.atleast_1d(x)
    length = -(-rows.shape[-1] // max(1, round(rows.shape[-1] / GROUP)))
    found = np.empty_like(rows)
    for start in range(0, rows.shape[-1], length):
        part = slice(start, start + length)
        found[..., part] = np.abs(rows[..., part]).max(-1, keepdims=True)
    return (found / LARGEST[bits] * (1 + 1 / 256)).reshape(x.shape)


def test_codes_are_packed_plane_by_plane_before_their_scale():
    found = quantise({"w": jnp.array([[3.0, -2.0, 1.0, 0.0]])}, 3)["w"]
    # Magnitudes 11, 10, 01, 00 and then the signs, the lowest bit first; 1.0 in bfloat16 is 3f80.
    assert np.asarray(found.data).tolist() == [[0b10100000, 0b11000000, 0b01000000, 0x80, 0x3F]]
    assert (found.shape, found.bits) == ((1, 4), 3)


@pytest.mark.parametrize("bits", CODE_BITS)
def test_multiples_of_the_scale_round_trip_exactly(bits):
    largest = LARGEST[bits]
    codes = np.arange(-largest, largest + 1, dtype=np.float32)
    x = jnp.asarray(np.stack([codes * 0.25, codes * 2.0**-20]))
    np.testing.assert_array_equal(dequantise(quantise({"w": x}, bits))["w"], x)


@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_errors_are_at_most_half_a_step(bits, shape):
    x = draw(1, shape)
    found = dequantise(quantise({"w": x}, bits))["w"]
    assert (found.shape, found.dtype) == (shape, jnp.float32)
    assert (np.abs(found - x) <= 0.5 * steps(np.asarray(x), bits) * 1.001).all()
    near = x + draw(2, shape, 1e-5)
    base = {"w": found}
    again = dequantise(quantise({"w": near}, bits, base), base)["w"]
    smaller = np.minimum(steps(np.asarray(near), bits), steps(np.asarray(near - found), bits))
    assert (np.abs(again - near) <= 0.5 * smaller * 1.001 + 1e-9).all()


def test_unchanged_entries_stay_zero_and_other_leaves_are_kept():
    tau = {
        "w": draw(3, (4, 130)).at[:, 50:].set(0.0),
        "frozen": jnp.zeros((3, 70)),
        "n": jnp.int8(0),
    }
    codes = quantise(tau, 3)
    base = dequantise(codes)
    again = dequantise(quantise(tau, 3, base), base)
    for found in (base, again):
        assert not found["w"][:, 50:].any() and not found["frozen"].any()
        assert found["n"] is tau["n"]
    assert base["w"].any()


def test_entries_unchanged_since_the_base_equal_the_base():
    base = dequantise(quantise({"w": draw(4, (3, 128))}, 4))
    np.testing.assert_array_equal(dequantise(quantise(base, 4, base), base)["w"], base["w"])


@pytest.mark.parametrize("bits", CODE_BITS)
def test_errors_of_differences_do_not_accumulate(bits):
    x, base, errors = draw(5, (8, 256)), None, []
    for task in range(20):
        tau = {"w": x}
        base = dequantise(quantise(tau, bits, base), base)
        errors.append(float(jnp.linalg.norm(base["w"] - x)))
        x = x + draw(6 + task, (8, 256), 1e-4)
    assert max(errors[2:]) < 0.25 * errors[0]  # in steps of a tenth


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_non_finite_values_are_refused(bad):
    tau = {"fine": jnp.ones(3), "w": jnp.ones((3, 5000)).at[1, 70].set(bad)}
    with pytest.raises(UserError, match=r"1 leaf holds NaN or infinity:\n  \['w'\]"):
        quantise(tau, 8)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.2266), (4, 0.1329), (3, 0.1016)])
def test_size_of_a_vit_b_16_task_vector_relative_to_float32(bits, share):
    shape = MODEL_FAMILIES["clip"].published["openai/clip-vit-base-patch16"]
    _, theta = abstract_model(shape).image_tower("float32")
    tau = jax.eval_shape(task_vector, theta, theta)
    assert tree_bytes(quantised_shapes(tau, bits)) / tree_bytes(tau) == pytest.approx(
        share, abs=2e-4
    )


@pytest.mark.parametrize("bits", CODE_BITS)
def test_no_less_accurate_than_the_same_bits_with_one_scale_per_tensor(bits):
    # Rows of different widths, as layers' channels have.
    width = np.exp(np.random.default_rng(7).normal(size=(64, 1)))
    x = np.asarray(draw(8, (64, 768))) * width.astype(np.float32)
    step = np.abs(x).max() / (2 ** (bits - 1) - 1)
    plain = np.linalg.norm(np.round(x / step) * step - x)
    found = dequantise(quantise({"w": jnp.asarray(x)}, bits))["w"]
    assert np.linalg.norm(found - x) <= plain
