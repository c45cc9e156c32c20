"""The training step built in other ways than the product's, one difference each.

Every function here is a context within which the product's own code builds that step; nothing of it
is left outside.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from magmax_jax.models.clip import model
from magmax_jax.models.clip.config import TowerConfig
from magmax_jax.models.layers import attention, transformer

Context = contextlib.AbstractContextManager


class SeparateAttention(transformer.Attention):
    """q, k and v out of three products."""

    def __init__(self, config: TowerConfig, *, causal: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(config, causal=causal, dtype=dtype, rngs=rngs)
        d = config.width
        self.qkv = nnx.List([nnx.Linear(d, d, dtype=dtype, rngs=rngs) for _ in range(3)])

    def __call__(self, x: jax.Array, n: int) -> jax.Array:
        d, h = x.shape[-1], self.heads
        kept = (transformer.checkpoint_name(linear(x), transformer.KEPT) for linear in self.qkv)
        q, k, v = (part.reshape(-1, n, h, d // h) for part in kept)
        return self.out(transformer.attend(q, k, v, causal=self.causal).reshape(-1, d))


class OutInLinear(nnx.Linear):
    """A kernel that is stored (out, in), as torch and Hugging Face's files have it."""

    def __init__(self, features: int, out: int, **options):
        super().__init__(features, out, **options)
        self.kernel = nnx.Param(self.kernel[...].T)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype).T
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


def three_products() -> Context:
    return mock.patch.object(transformer, "Attention", SeparateAttention)


def kernels_out_in() -> Context:
    return mock.patch.object(nnx, "Linear", OutInLinear)


def attention_of_jax() -> Context:
    """`jax.nn.dot_product_attention`, tokens before heads, compiled by XLA."""
    other = functools.partial(jax.nn.dot_product_attention, implementation="xla")

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
        return other(q, k, v, is_causal=causal)

    return mock.patch.object(transformer, "attend", attend)


def attention_without_cudnn() -> Context:
    return mock.patch.object(attention, "fits_cudnn", lambda q: False)


def weights_divided_first() -> Context:
    """softmax before the second product: n divisions a token and head instead of e."""

    def explicit(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
        scores = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5).astype(v.dtype)
        return jnp.matmul(weights, v).swapaxes(1, 2)

    return mock.patch.object(attention, "_explicit", explicit)


def convolution() -> Context:
    """Patches are embedded by a convolution whose stride is its size."""

    class Convolution(nnx.Linear):
        def __call__(self, patches: jax.Array) -> jax.Array:
            b, n, entries = patches.shape
            side, grid = round((entries / 3) ** 0.5), round(n**0.5)
            # The picture again: what a convolution would be given, without these two transposes.
            pixels = patches.reshape(b, grid, grid, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
            kernel = self.kernel[...].astype(self.dtype).reshape(side, side, 3, -1)
            embedded = jax.lax.conv_general_dilated(
                pixels.reshape(b, grid * side, grid * side, 3).astype(self.dtype), kernel,
                (side, side), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip
            return embedded.reshape(b, n, -1)

    @contextlib.contextmanager
    def built() -> Iterator[None]:
        made = model.VisionTower.__init__

        def init(self, config, projection, *, dtype, rngs, **options):
            made(self, config, projection, dtype=dtype, rngs=rngs, **options)
            self.patch_embedding = Convolution(
                3 * config.patch_size**2, config.width, use_bias=False, dtype=dtype, rngs=rngs
            )

        with mock.patch.object(model.VisionTower, "__init__", init):
            yield

    return built()


def layers_unrolled() -> Context:
    return mock.patch.object(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))


def kept(policy: Callable[..., bool]) -> Context:
    """Another choice of what a block keeps for the gradient, one of `jax.checkpoint_policies`."""
    return mock.patch.object(transformer, "_keeps", policy)


def parameters_in_one_vector() -> Context:
    """The optimiser works on one long vector instead of leaf by leaf."""
    chain = optax.chain
    return mock.patch.object(optax, "chain", lambda *parts: optax.flatten(chain(*parts)))


def kernels_cast_before_the_layers() -> Context:
    """All blocks' parameters in the dtype of the computation at once, not block by block."""
    apply_blocks = transformer.apply_blocks

    def cast(blocks: transformer.Block, x: jax.Array, *options) -> jax.Array:
        graphdef, params = nnx.split(blocks)
        params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)
        return apply_blocks(nnx.merge(graphdef, params), x, *options)

    return mock.patch.object(model, "apply_blocks", cast)


def state_not_donated() -> Context:
    compiled = jax.jit

    def jit(function: Callable | None = None, *, donate_argnums=(), **options) -> Callable:
        if function is None:
            return functools.partial(compiled, **options)
        return compiled(function, **options)

    return mock.patch.object(jax, "jit", jit)
