"""Linear layers and attention in bfloat16 on CPUs, against NumPy in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.models.layers.attention import attend
from magmax_jax.models.layers.bfloat16_attention import attend_rows
from magmax_jax.models.layers.linear import Linear, linear

ROWS = 6


def drawn(*shape, seed=0):
    """Float32 normal draws that bfloat16 represents exactly."""
    found = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(jnp.asarray(found, jnp.bfloat16).astype(jnp.float32))


def exact(array):
    return np.asarray(array.astype(jnp.float32) if hasattr(array, "astype") else array, np.float64)


@pytest.mark.parametrize("shape", [(ROWS,), (2, 3)])
def test_a_linear_layer_accumulates_in_float32(shape):
    x, kernel, g = drawn(*shape, 300), drawn(300, 5, seed=1), drawn(*shape, 5, seed=2)
    bias = np.linspace(-1, 1, 5, dtype=np.float32)

    def loss(x, kernel, bias):
        return jnp.sum(linear(x, kernel, bias).astype(jnp.float32) * g)

    y = linear(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel), jnp.asarray(bias))
    assert y.dtype == jnp.bfloat16 and y.shape == (*shape, 5)
    np.testing.assert_allclose(exact(y), exact(x) @ exact(kernel) + bias, rtol=2**-8, atol=1e-4)
    of_x, of_kernel, of_bias = jax.grad(loss, argnums=(0, 1, 2))(
        jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel), jnp.asarray(bias)
    )
    rows, gradient = exact(x).reshape(-1, 300), exact(g).reshape(-1, 5)
    assert of_kernel.dtype == jnp.float32 and of_x.dtype == jnp.bfloat16
    np.testing.assert_allclose(exact(of_kernel), rows.T @ gradient, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exact(of_bias), gradient.sum(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exact(of_x), exact(g) @ exact(kernel).T, rtol=2**-8, atol=1e-4)


def test_a_float32_layer_equals_nnx_linear_to_the_bit():
    ours, theirs = (
        kind(8, 4, dtype=jnp.float32, rngs=nnx.Rngs(0)) for kind in (Linear, nnx.Linear)
    )
    np.testing.assert_array_equal(ours(drawn(3, 8)), theirs(drawn(3, 8)))


def attention(q, k, v, causal):
    """softmax(q k^T / sqrt(e)) v, (b, n, h, e), any float dtype."""
    scores = jnp.einsum("bnhe,bmhe->bhnm", q, k) * q.shape[-1] ** -0.5
    if causal:
        scores = jnp.where(jnp.tri(q.shape[1], dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhnm,bmhe->bnhe", jax.nn.softmax(scores), v)


@pytest.mark.parametrize(("queries", "causal"), [(9, False), (9, True), (1, False)])
@pytest.mark.parametrize("mapped", [False, True])
def test_attention_and_its_gradient(queries, causal, mapped):
    q, g = drawn(2, queries, 3, 8), drawn(2, queries, 3, 8, seed=3)
    k, v = drawn(2, 9, 3, 8, seed=1), drawn(2, 9, 3, 8, seed=2)

    def rows(q, k, v):
        return attend_rows(*(x.astype(jnp.bfloat16) for x in (q, k, v)), causal)

    def each(q, k, v):
        one = jax.vmap(lambda q, k, v: rows(q[None], k[None], v[None])[0])
        return (one if mapped else rows)(q, k, v).astype(jnp.float32)

    def loss(function):
        return lambda q, k, v: jnp.sum(function(q, k, v) * g)

    expected = attention(q, k, v, causal)
    np.testing.assert_allclose(exact(each(q, k, v)), expected, atol=0.02)
    found = jax.grad(loss(each), argnums=(0, 1, 2))(q, k, v)
    of = jax.grad(loss(lambda *x: attention(*x, causal)), argnums=(0, 1, 2))(q, k, v)
    for ours, theirs in zip(found, of, strict=True):
        scale = max(float(np.abs(theirs).max()), 1e-3)
        assert np.abs(exact(ours) - exact(theirs)).max() < 0.02 * scale + 1e-3


def products(function, *arguments):
    """Every bfloat16 product as (rank of the first factor, its contracted axis, the second's)."""
    text = jax.jit(function).lower(*arguments).as_text()
    pattern = (
        r"dot_general .*contracting_dims = \[(\d)\] x \[(\d)\].*"
        r": \(tensor<((?:\d+x)+)bf16>, tensor<(?:\d+x)+bf16>\)"
    )
    found = re.findall(pattern, text)
    assert len(found) == len(re.findall("dot_general", text)), "each is in bfloat16"
    return [(shape.count("x"), int(a), int(b)) for a, b, shape in found]


def test_all_products_are_row_by_row():
    """A library computes these; others use XLA's own float32 loops, several times slower."""

    def layer(x, kernel):
        return jnp.sum(linear(x, kernel, None).astype(jnp.float32) ** 2)

    x, kernel = jnp.ones((ROWS, 8), jnp.bfloat16), jnp.ones((8, 4))
    found = products(jax.grad(layer, argnums=(0, 1)), x, kernel)
    assert len(found) == 3 and all((a, b) == (rank - 1, rank - 2) for rank, a, b in found)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is about CPUs")
def test_attention_takes_the_form_that_is_fast_on_a_cpu():
    x = jnp.ones((2, 5, 3, 8), jnp.bfloat16)

    def mixed(q, k, v):
        return jnp.sum(attend(q, k, v, causal=False).astype(jnp.float32) ** 2)

    text = jax.jit(jax.grad(mixed, argnums=(0, 1, 2))).lower(x, x, x).as_text()
    found = re.findall(r"dot_general .*contracting_dims = \[(\d)\] x \[(\d)\]", text)
    large = [pair for pair in found if pair == ("3", "2")]
    assert len(large) == 7, "two forward; the scores again and four of the gradient"


def test_arrays_transposed_for_a_gradient_are_first_computed_along_rows():
    """Fused with the transpose, an activation is computed along columns, many times slower."""

    def layer(x, kernel):
        return jnp.sum(linear(jnp.tanh(x), kernel, None).astype(jnp.float32) ** 2)

    x, kernel = jnp.ones((ROWS, 8), jnp.bfloat16), jnp.ones((8, 4))
    text = jax.jit(jax.grad(layer, argnums=(0, 1))).lower(x, kernel).as_text()
    lines = dict(line.strip().split(" = ", 1) for line in text.splitlines() if " = " in line)
    made = {name.split(":")[0]: line for name, line in lines.items()}  # "%3:2" has two results
    turned = re.findall(r"stablehlo\.transpose (%\w+)", text)
    assert len(turned) == 2, "the layer's input and its kernel"
    for operand in turned:
        (source,) = re.findall(r"(%\w+)", made[operand].split(" : ")[0])[:1]
        assert "optimization_barrier" in made[source], made[operand]
