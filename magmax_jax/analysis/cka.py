"""Centred kernel alignment: how similarly two models represent the same images.

Linear CKA (Kornblith et al., 2019, arXiv 1905.00414, sec. 3) of features x (n, p) and y (n, q)
with centred columns:

    CKA = |y' x|_F^2 / (|x' x|_F |y' y|_F)

It is 1 for features that are equal up to a rotation, a common scale and a shift, and 0 for
uncorrelated ones. The products are sums over images, so they are accumulated batch by batch; the
means are not known until the last, so every batch is centred by its own and then corrected (Chan,
Golub & LeVeque, 1983, "Algorithms for computing the sample variance"). With few images CKA is
biased towards 1: use several times as many as there are features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh


class Moments(NamedTuple):
    """Sums over n images, float32 except for the count.

    Attributes:
      count: n, int32 scalar.
      mean_x: (p,).
      mean_y: (q,).
      xx: x' x of the centred features, (p, p).
      yy: (q, q).
      yx: (q, p).
    """

    count: jax.Array  # type: ignore[assignment]  # the standard name; tuple.count is not called
    mean_x: jax.Array
    mean_y: jax.Array
    xx: jax.Array
    yy: jax.Array
    yx: jax.Array


def init(p: int, q: int) -> Moments:
    """The state before any image, for features of widths p and q."""
    shapes = (p,), (q,), (p, p), (q, q), (q, p)
    return Moments(jnp.int32(0), *(jnp.zeros(shape, jnp.float32) for shape in shapes))


@jit_on_any_mesh(like=None, donate_argnums=0)
def update(
    state: Moments, x: jax.Array, y: jax.Array, mask: jax.typing.ArrayLike = True
) -> Moments:
    """The state after one more batch; the old state's buffers become the new one's.

    Args:
      state: for features of these widths.
      x: features of one model, floating-point (b, p), finite even where masked.
      y: the other model's for the same images, (b, q).
      mask: bool (b,), False for padding.

    Raises:
      UserError: the features do not have the state's widths, or differ in the number of images.
    """
    if x.shape != (len(y), *state.mean_x.shape) or y.shape != (len(x), *state.mean_y.shape):
        (p,), (q,) = state.mean_x.shape, state.mean_y.shape
        raise UserError(
            f"features of shapes {x.shape} and {y.shape} cannot be aligned here: give (b, {p}) and "
            f"(b, {q}) of the same b images"
        )
    mask = jnp.broadcast_to(mask, len(x))
    added = jnp.sum(mask, dtype=jnp.int32)
    count = state.count + added
    share = added / jnp.maximum(count, 1)  # this batch's share of all images so far
    weight = state.count * share  # n_a n_b / (n_a + n_b)

    def centred(features: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = features.astype(jnp.float32)
        one = jnp.where(mask, 1 / jnp.maximum(added, 1), 0.0)[:, None]
        mean = jnp.sum(features * one, axis=0)
        # Twice: the first mean's rounding error scales with its size, not with the spread.
        mean += jnp.sum((features - mean) * one, axis=0)
        return jnp.where(mask[:, None], features - mean, 0.0), mean

    (x, batch_x), (y, batch_y) = centred(x), centred(y)
    moved_x, moved_y = batch_x - state.mean_x, batch_y - state.mean_y

    def more(a: jax.Array, b: jax.Array, moved_a: jax.Array, moved_b: jax.Array) -> jax.Array:
        within = jnp.matmul(a.T, b, precision="highest")
        return within + weight * jnp.outer(moved_a, moved_b)

    return Moments(
        count=count,
        mean_x=state.mean_x + share * moved_x,
        mean_y=state.mean_y + share * moved_y,
        xx=state.xx + more(x, x, moved_x, moved_x),
        yy=state.yy + more(y, y, moved_y, moved_y),
        yx=state.yx + more(y, x, moved_y, moved_x),
    )


def finalize(state: Moments) -> float:
    """Linear CKA in [0, 1]; 0 if one model's features are the same for all images."""
    xx, yy, yx = (
        np.linalg.norm(np.asarray(product, np.float64))
        for product in (state.xx, state.yy, state.yx)
    )
    return min(float(yx**2 / (xx * yy)), 1.0) if xx * yy > 0 else 0.0
