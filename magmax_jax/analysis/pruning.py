"""Pruned task vectors: do the entries of high magnitude suffice?

The first hypothesis of MagMax (Marczak et al., 2024, arXiv 2407.06322): theta_0 + keep(tau_t,
share) is nearly as accurate as theta_t if the largest entries are kept, but not with others.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from magmax_jax.analysis.leaves import entries, named_leaves
from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.numerics.selection import kth_magnitude
from magmax_jax.merging.rule import leaf_key, leafwise_at
from magmax_jax.merging.task_vectors import PyTree

Choice = Literal["largest", "smallest", "random"]


def keep(tau: PyTree, share: float, choice: Choice = "largest", seed: int = 0) -> PyTree:
    """The task vector with a share of its n entries kept and the others zeroed.

    int(share n) entries are kept, counted over all floating-point leaves together. Entries that tie
    with the last one kept are also kept, so there may be more if magnitudes repeat often (e.g. with
    bfloat16 weights). A random choice may keep one more, if two 30-bit draws are equal.
    `merging.rules.global_threshold` keeps one more, as the official code does.

    Args:
      tau: any pytree; its entries are finite.
      share: in [0, 1]; 0 gives zeros and 1 the task vector itself.
      choice: the largest or the smallest magnitudes, or all entries with equal probability.
      seed: of the random choice, which depends on the seed and the leaves' names and shapes, but
        not on their order or sharding. Use different seeds to drop different entries of different
        task vectors.

    Returns:
      A pytree of tau's structure, shapes and dtypes; leaves that are not floating-point are tau's.

    Raises:
      UserError: the share is outside [0, 1], or there is no such choice.

    >>> print(keep(jnp.array([3.0, -1.0, -4.0, 2.0]), 0.5))
    [ 3.  0. -4.  0.]
    """
    check_share(share)
    if choice not in get_args(Choice):
        raise UserError(f"{choice!r} is not a choice of entries: use {', '.join(get_args(Choice))}")
    scores = named_leaves(tau)
    if share == 1:
        return tau
    if choice == "random":
        scores = _draws(scores, {name: leaf_key(seed, 0, name) for name in scores})
    if choice == "smallest":
        limit = kth_magnitude(scores, int(share * entries(scores)))
    else:
        limit = threshold(scores, share)
    return _kept(tau, scores, limit, smallest=choice == "smallest")


def threshold(tau: PyTree, share: float) -> jax.Array:
    """The magnitude that the int(share n) largest of n entries reach: float32 scalar.

    Args:
      tau: any pytree; its entries are finite.
      share: in [0, 1]; 0 gives infinity and 1 zero.

    Raises:
      UserError: the share is outside [0, 1].

    >>> print(threshold(jnp.array([3.0, -1.0, -4.0, 2.0]), 0.5))
    3.0
    """
    check_share(share)
    leaves = named_leaves(tau)
    n = entries(leaves)
    count = int(share * n)
    # The smallest magnitude would work as well as zero, but takes passes over the data to find.
    return jnp.float32(0) if count == n else kth_magnitude(leaves, n - count + 1)


def check_share(share: float) -> None:
    """Raises a UserError unless `share` is a valid share."""
    if not 0 <= share <= 1:
        raise UserError(f"a share of {share} cannot be kept: give one in [0, 1]")


@jit_on_any_mesh
def _draws(leaves: dict[str, jax.Array], keys: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """A random score for every entry: positive normal float32, nearly all of them distinct."""

    def draw(leaf: jax.Array, key: jax.Array) -> jax.Array:
        bits = (jax.random.bits(key, leaf.shape) >> 2) + jnp.uint32(0x00800000)
        drawn = jax.lax.bitcast_convert_type(bits, jnp.float32)
        # Finite entries are never NaN: this only makes the draws follow their entries' sharding.
        return jnp.where(jnp.isnan(leaf), 0.0, drawn)

    return {name: draw(leaf, keys[name]) for name, leaf in leaves.items()}


@jit_on_any_mesh(static_argnums=3)
def _kept(tau: PyTree, scores: dict[str, jax.Array], limit: jax.Array, smallest: bool) -> PyTree:
    def kept(name: str, leaf: jax.Array) -> jax.Array:
        score = jnp.abs(scores[name].astype(jnp.float32))
        return jnp.where(score <= limit if smallest else score >= limit, leaf, jnp.zeros_like(leaf))

    return leafwise_at(kept, tau)
