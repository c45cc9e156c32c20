"""Rules that draw at random: every draw is keyed by seed, task and the leaf's name."""

from __future__ import annotations

from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.merging.leaf_names import checked_seed
from magmax_jax.merging.numerics.over_tasks import EachTask, each
from magmax_jax.merging.numerics.ranking import ranks
from magmax_jax.merging.rule import (
    Counted,
    MergeRule,
    Thins,
    collecting,
    factory,
    leaf_key,
    leaf_keys,
    leafwise,
    leafwise_at,
    leafwise_collected,
)
from magmax_jax.merging.rules.sign_consensus import elect_and_merge
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES


@RULES.register("random_mix")
@factory
def random_mix(seed: int = 0) -> MergeRule:
    """For each parameter, the change of a task drawn uniformly among those seen: a control.

        tau^p = tau_t^p,    t uniform over 1 ... T, independently for each p

    Reservoir sampling of size one (Vitter, 1985): the t-th task replaces an entry with probability
    1/t, so each task ends up there with probability 1/T. Default scale 1. State: one task vector
    and a counter. Order changes the draws, not their distribution.

    Args:
      seed: random seed, any integer; the same seed, order and leaf names give the same mix.

    Raises:
      UserError: the seed is not an integer.
    """
    seed = checked_seed(seed)

    def update(state: Counted, tau: PyTree) -> Counted:
        count = state.count + 1

        def replace(name: str, mixed: jax.Array, tau: jax.Array) -> jax.Array:
            # u in [0, 1) and u t < 1: the first task replaces everything.
            u = jax.random.uniform(leaf_key(seed, count, name), mixed.shape, jnp.float32)
            return jnp.where(u * count < 1, tau, mixed)

        return Counted(leafwise_at(replace, state.tau, tau), count)

    return MergeRule(
        Counted.zeros,
        update,
        lambda state: state.tau,
        streaming=True,
        default_scale=1.0,
        scope="tensor",
        draws=True,
    )


@RULES.register("dare")
@factory
def dare(drop: float = 0.5, seed: int = 0) -> MergeRule:
    """The sum of task vectors after dropping random entries and rescaling the others.

        tau = sum_t m_t tau_t / (1 - drop),    m_t^p = 0 with probability drop, else 1

    DARE, Yu et al., 2024 (arXiv 2311.03099), with task arithmetic; fusion_bench's
    `DareTaskArithmetic`, whose defaults these are. The paper drops 0.9 and more for language
    models; mergekit calls 1 - drop the density. Default scale 0.3. State: one task vector and a
    counter. Order changes the draws, not their distribution.

    Args:
      drop: the probability of dropping an entry, in [0, 1).
      seed: random seed, any integer.

    Raises:
      UserError: drop is outside [0, 1), or the seed is not an integer.
    """
    seed = checked_seed(seed)
    if not 0 <= drop < 1:
        raise UserError(f"dare: drop is {drop}: it must be in [0, 1)")

    def update(state: Counted, tau: PyTree) -> Counted:
        count = state.count + 1

        def add(name: str, total: jax.Array, tau: jax.Array) -> jax.Array:
            kept = jax.random.uniform(leaf_key(seed, count, name), total.shape, jnp.float32) >= drop
            return total + jnp.where(kept, tau, 0.0) / (1 - drop)

        return Counted(leafwise_at(add, state.tau, tau), count)

    def add_kept(total: PyTree, tau: PyTree) -> PyTree:
        return leafwise(lambda total, tau: total + tau / (1 - drop), total, tau)

    facts: dict[str, Any] = {"streaming": True, "default_scale": 0.3}
    kept = MergeRule(
        zeros, add_kept, lambda total: total, scope="entry", reads_names=False, **facts
    )
    return MergeRule(
        Counted.zeros,
        update,
        lambda state: state.tau,
        scope="tensor",
        draws=True,
        thins=Thins(lambda task: (drop, 1.0), seed, False, kept),
        **facts,
    )


@RULES.register("della")
@factory
def della(density: float = 0.7, epsilon: float = 0.07, seed: int = 0) -> MergeRule:
    """The mean over agreeing signs of task vectors randomly thinned by magnitude.

        q = density - epsilon + 2 epsilon (rank - 1) / (n - 1)      kept with probability q
        tau_t' = tau_t / q where kept, else 0
        tau = mean over t of the tau_t' whose sign is that of sum_t tau_t' (plus where it is zero)

    DELLA, Deep et al., 2024 (arXiv 2406.11617), as released: rank is that of |tau_t^p| among the
    n entries of its row (the last axis; a vector is one row), from 1, the smallest. mergekit keeps
    the same entries but rescales the tensor to its old L1 norm instead of entry by entry, with
    epsilon 0.15. The defaults are the release's example: a drop rate of 0.3 in a window of 0.14
    (2 epsilon), and scale 1.1. Collects all task vectors. Order changes the draws, not their
    distribution. The rows of a kernel stored as (in, out) are not those of its transpose.

    Args:
      density: the share of entries kept.
      epsilon: how far a row's largest and smallest entries deviate from that probability.
      seed: random seed, any integer.

    Raises:
      UserError: density - epsilon is not positive, density + epsilon exceeds 1, or the seed is not
        an integer.
    """
    seed = checked_seed(seed)
    if not (epsilon >= 0 and density - epsilon > 0 and density + epsilon <= 1):
        raise UserError(
            f"della: density {density} and epsilon {epsilon} give probabilities from "
            f"{density - epsilon:g} to {density + epsilon:g}: they must be in (0, 1]"
        )

    # Compiled by shape, not by tree: the leaves of most models share a few shapes.
    @jit
    def thin(key: jax.Array, tau: jax.Array) -> jax.Array:
        kept = keep_probability(tau, density, epsilon)
        return jnp.where(jax.random.uniform(key, tau.shape, jnp.float32) < kept, tau / kept, 0.0)

    @jit
    def thin_all(keys: jax.Array, taus: jax.Array) -> jax.Array:
        return each(thin, keys, taus)

    @jit
    def merge_thinned(taus: EachTask) -> jax.Array:
        return elect_and_merge(jnp.float32(1), "mass", "mean", taus)

    def merge(name: str, taus: EachTask) -> jax.Array:
        if isinstance(taus, jax.Array):
            return merge_thinned(thin_all(leaf_keys(seed, len(taus), name), taus))
        keys = [leaf_key(seed, task, name) for task in range(1, len(taus) + 1)]
        return merge_thinned(list(map(thin, keys, taus)))

    return collecting(
        lambda taus: leafwise_collected(merge, taus),
        default_scale=1.1,
        stacks=True,
        scope="tensor",
        draws=True,
    )


def keep_probability(tau: jax.Array, density: float, epsilon: float) -> jax.Array:
    """DELLA's q for every entry, from density - epsilon to density + epsilon within each row."""
    last = max(tau.shape[-1] - 1, 1) if tau.ndim else 1
    return density - epsilon + 2 * epsilon * (ranks(tau).astype(jnp.float32) / last)
