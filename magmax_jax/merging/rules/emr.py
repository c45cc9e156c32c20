"""EMR merging: a unified task vector, and what is needed to restore each task from it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from magmax_jax.merging.any_mesh import jit_on_any_mesh, on_any_mesh
from magmax_jax.merging.numerics.reductions import fixed_sum
from magmax_jax.merging.rule import MergeRule, factory, leafwise
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Extremes(NamedTuple):
    """State of `emr`: for every entry the sum, and the highest and lowest change, zero included."""

    total: PyTree
    highest: PyTree
    lowest: PyTree


class Modulation(NamedTuple):
    """What `emr` keeps of one task: a mask over all entries (bool) and a factor (float32)."""

    mask: PyTree
    rescale: jax.Array


@RULES.register("emr")
@factory
def emr() -> MergeRule:
    """EMR: elect a sign for every entry and take the largest change of that sign.

        sign = 1 where sum_t tau_t > 0, else -1
        tau  = sign max_t { |tau_t^p| : sgn(tau_t^p) = sign }        (0 where no task has that sign)

    Huang et al., 2024 (arXiv 2405.17461); a sum of zero elects minus, as in the release. This is
    the unified task vector; `emr_modulation` computes each task's mask and rescaling of it, which
    the method applies when the task is known. Default scale 1. State: three task vectors (sum, and
    the largest change of either sign), whatever the number of tasks. Order affects only rounding.
    """

    def update(state: Extremes, tau: PyTree) -> Extremes:
        return Extremes(
            leafwise(jnp.add, state.total, tau),
            leafwise(jnp.maximum, state.highest, tau),
            leafwise(jnp.minimum, state.lowest, tau),
        )

    def finalize(state: Extremes) -> PyTree:
        return leafwise(lambda total, high, low: jnp.where(total > 0, high, low), *state)

    return MergeRule(
        lambda pretrained: Extremes(*(zeros(pretrained) for _ in range(3))),
        update,
        finalize,
        streaming=True,
        default_scale=1.0,
        scope="tensor",
        reads_names=False,
    )


@partial(on_any_mesh, like=1)
def emr_modulation(
    unified: PyTree, tau: PyTree, sums: tuple[jax.Array, jax.Array] | None = None
) -> Modulation:
    """One task's mask and factor: tau_t is restored as `rescale mask unified`.

        mask = tau_t unified > 0,    rescale = sum |tau_t| / sum |mask unified|

    Huang et al., 2024, eq. 3 and 4, with sums over all entries; the release adds up per-tensor
    means instead.

    Args:
      unified: `emr`'s merge of all tasks.
      tau: this task's task vector.
      sums: numerator and denominator over the whole task vector, for callers that go leaf by leaf:
        the sums of `emr_sums` over all leaves.
    """
    mask = jax.tree.map(lambda u, t: u * t > 0, unified, tau)
    if sums is None:
        together = zip(jax.tree.leaves(unified), jax.tree.leaves(tau), strict=True)
        parts = [emr_sums(u, t) for u, t in together if is_merged(u)]
        sums = tuple(sum(part) for part in zip(*parts, strict=True))
    whole, kept = sums
    return Modulation(mask, jnp.where(kept > 0, whole / jnp.where(kept > 0, kept, 1.0), 1.0))


@jit_on_any_mesh(like=None)
def emr_sums(unified: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sum |tau_t| and sum |mask unified| of one tensor."""
    return fixed_sum(jnp.abs(tau)), fixed_sum(jnp.where(unified * tau > 0, jnp.abs(unified), 0.0))
