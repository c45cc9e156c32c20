"""Attention: what it computes, and which kernel is requested."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.models.layers.attention import attend, fits_cudnn


def queries(dtype=jnp.float32, width: int = 16):
    """q, k and v of two sequences of five tokens and three heads."""
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (2, 5, 3, width)).astype(dtype) for key in keys]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_softmax_of_scaled_products(causal):
    q, k, v = queries()
    scores = np.einsum("bnhe,bmhe->bhnm", q, k) / np.sqrt(16)
    if causal:
        scores = np.where(np.tri(5, dtype=bool), scores, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    expected = np.einsum("bhnm,bmhe->bnhe", weights, v)
    np.testing.assert_allclose(attend(q, k, v, causal=causal), expected, atol=1e-5)


def on_gpu(monkeypatch, capability: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        jax, "local_devices", lambda: [SimpleNamespace(compute_capability=capability)]
    )


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "fits"),
    [
        (jnp.bfloat16, 64, "9.0", True),
        (jnp.float16, 64, "8.0", True),
        (jnp.bfloat16, 80, "12.0", True),
        (jnp.bfloat16, 104, "8.6", True),
        (jnp.float32, 64, "9.0", False),
        (jnp.bfloat16, 60, "9.0", False),
        (jnp.bfloat16, 136, "9.0", False),
        (jnp.bfloat16, 64, "7.5", False),
        (jnp.bfloat16, 64, "gfx942", False),
    ],
)
def test_cudnn_is_used_only_where_it_is_supported(monkeypatch, dtype, width, capability, fits):
    q, _, _ = queries(dtype, width)
    assert not fits_cudnn(q), "the tests run on a CPU"
    on_gpu(monkeypatch, capability)
    assert fits_cudnn(q) == fits


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [4, 5])
def test_cudnn_is_called_with_the_same_function(monkeypatch, tokens, causal):
    given, asked = [x[:, :tokens] for x in queries(jnp.bfloat16)], []
    expected = attend(*(x.astype(jnp.float32) for x in given), causal=causal)
    compute = jax.nn.dot_product_attention

    def on_cpu(*arguments, implementation, **options):
        asked.append(implementation)
        return compute(*arguments, implementation="xla", **options)

    on_gpu(monkeypatch, "9.0")
    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    found = attend(*given, causal=causal)
    assert asked == ["cudnn"] and found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("causal", [False, True])
def test_16_bit_results_are_rounded_from_32_bit_sums(causal):
    given = queries(jnp.bfloat16)
    expected = attend(*(x.astype(jnp.float32) for x in given), causal=causal)
    found = attend(*given, causal=causal)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2e-2, atol=2e-3)


def test_large_scores_do_not_overflow():
    q, k, v = (1e3 * x for x in queries())
    found, gradient = jax.value_and_grad(lambda q: attend(q, k, v, causal=True).sum())(q)
    assert np.isfinite(found) and np.isfinite(gradient).all()


@pytest.mark.parametrize("tokens", [4, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_is_lowered_for_any_number_of_tokens_with_its_gradient(cudnn, tokens, causal):
    q = jax.ShapeDtypeStruct((2, tokens, 3, 16), jnp.bfloat16)

    def summed(q, k, v):
        return attend(q, k, v, causal=causal).astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(summed, argnums=(0, 1, 2))).trace(q, q, q)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaSoftmax(" in program and "__cudnn$fmhaSoftmaxBackward(" in program
    assert [gradient.shape for gradient in traced.out_info] == [q.shape] * 3
    assert ("PADDING" in program) == (tokens == 5)
