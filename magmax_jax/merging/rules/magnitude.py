"""Rules that drop entries by magnitude, and the thresholds that they and `ties` use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, each
from magmax_jax.merging.numerics.selection import kth_magnitude
from magmax_jax.merging.rule import Counted, MergeRule, factory, leafwise
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

Threshold = Literal["global", "per_tensor"]


def global_rank(size: int, density: float, entries: int | None = None) -> int:
    """The rank (1 is the smallest) of the least magnitude kept of a task vector.

    As in the official code: of d entries the (d - int(density d))-th smallest, itself kept, so that
    int(density d) + 1 are kept where magnitudes differ.

    Args:
      size: floating-point entries of the task vector.
      density: the share to keep.
      entries: d, by default `size`. The excess over `size` counts as zeros: the official code ranks
        over the whole CLIP, including the text tower, which fine-tuning does not change.

    Raises:
      UserError: `entries` is less than `size`.
    """
    entries = size if entries is None else entries
    if entries < size:
        raise UserError(f"entries is {entries}: give at least {size}, the number in the pytree")
    return entries - int(entries * density) - (entries - size)


def global_threshold(tau: PyTree, density: float, entries: int | None = None) -> jax.Array:
    """The least magnitude that `trim` keeps of a whole task vector: float32 scalar.

    Piece by piece, use `TaskVectors.kth_magnitudes` at the rank `global_rank(size, density,
    entries)`.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(tau) if is_merged(leaf))
    return kth_magnitude(tau, global_rank(size, density, entries))


def tensor_threshold(tau: jax.Array, density: float) -> jax.Array:
    """The least magnitude that `trim` keeps of one tensor: the int(density n) largest of n entries.

    As in peft and mergekit, which keep one entry fewer than the official code's global threshold;
    mergekit keeps at least one, while this, like peft, may keep none of a very small tensor.
    """
    return kth_magnitude(tau, tensor_rank(tau.size, density))


def tensor_thresholds(taus: EachTask, density: float) -> jax.Array:
    """`tensor_threshold` of one tensor in every task vector: float32 (t,)."""
    if isinstance(taus, jax.Array):
        return _tensor_thresholds(taus, density)
    return jnp.stack([tensor_threshold(tau, density) for tau in taus])


@partial(jit, static_argnums=1)
def _tensor_thresholds(taus: jax.Array, density: float) -> jax.Array:
    return each(lambda tau: tensor_threshold(tau, density), taus)


def tensor_rank(size: int, density: float) -> int:
    """The rank (1 is the smallest) of `tensor_threshold` in a tensor of `size` entries."""
    return size - int(density * size) + 1


def trim(tau: jax.Array, threshold: jax.typing.ArrayLike) -> jax.Array:
    """The entries of at least the threshold's magnitude, the others zero."""
    return jnp.where(jnp.abs(tau) >= threshold, tau, 0.0)


def check_trimming(
    rule: str, density: float, threshold: str, thresholds: Sequence[float] | None
) -> None:
    """Raises a UserError if `rule` cannot trim by these arguments."""
    if not 0 <= density <= 1:
        raise UserError(f"{rule}: density is {density}: it must be in [0, 1]")
    if threshold not in ("global", "per_tensor"):
        raise UserError(f"{rule}: threshold is {threshold!r}: choose global or per_tensor")
    if thresholds is not None and threshold == "per_tensor":
        raise UserError(f"{rule}: thresholds apply only to threshold='global'")


@RULES.register("breadcrumbs")
@factory
def breadcrumbs(beta: float = 0.85, gamma: float = 0.006) -> MergeRule:
    """The sum of task vectors without their largest and their smallest entries.

        tau = sum_t m_t tau_t,    m_t = 0 for the int(gamma n) largest and the int(beta n) smallest
        |tau_t^p|
                                  of every tensor's n entries, else 1

    Model Breadcrumbs, Davari & Belilovsky, 2024 (arXiv 2312.06795). The release ranks within every
    row (last axis); this and mergekit rank within every tensor. mergekit keeps the share density =
    1 - beta - gamma. Magnitudes equal to the last one kept are kept too. The defaults are near the
    release's search (keep 0.15, drop 0.006), as is the scale of 0.2. State: one task vector. Order
    affects only rounding.

    Args:
      beta: the share of smallest entries to drop.
      gamma: the share of largest entries to drop.

    Raises:
      UserError: a share is negative, or nothing would be left.
    """
    if not (beta >= 0 and gamma >= 0 and beta + gamma < 1):
        raise UserError(
            f"breadcrumbs: beta is {beta} and gamma {gamma}: give shares from 0 up that sum to "
            "less than 1"
        )

    def add(total: jax.Array, tau: jax.Array) -> jax.Array:
        magnitude, n = jnp.abs(tau), tau.size
        low = kth_magnitude(tau, int(beta * n) + 1)
        high = kth_magnitude(tau, n - int(gamma * n))
        return total + jnp.where((magnitude >= low) & (magnitude <= high), tau, 0.0)

    return MergeRule(
        zeros,
        lambda total, tau: leafwise(add, total, tau),
        lambda total: total,
        streaming=True,
        default_scale=0.2,
        scope="tensor",
        reads_names=False,
    )


@RULES.register("magnitude_prune")
@factory
def magnitude_prune(
    density: float = 0.2,
    threshold: Threshold = "per_tensor",
    thresholds: Sequence[float] | None = None,
    entries: int | None = None,
) -> MergeRule:
    """The sum of task vectors, each reduced to its largest entries.

        tau = sum_t m_t tau_t,    m_t = 1 for the largest |tau_t^p|, else 0

    peft's `magnitude_prune` with weights of 1, and the first step of `ties`. It needs only one
    whole task vector at a time, so it streams. Default scale 0.3, that of the unpruned sum. State:
    one task vector and a counter. Order affects only rounding and `thresholds`.

    Args:
      density: the share of entries to keep.
      threshold: "per_tensor" as in peft (`tensor_threshold`), or "global" over the task vector
        (`global_threshold`). Magnitudes equal to the threshold are kept.
      thresholds: the global thresholds of the tasks, in order, for callers that pass a task vector
        leaf by leaf. A task beyond them makes the merge NaN.
      entries: for the global threshold, see `global_rank`.

    Raises:
      UserError: the density is outside [0, 1], or the threshold options are inconsistent.
    """
    check_trimming("magnitude_prune", density, threshold, thresholds)

    def update(state: Counted, tau: PyTree) -> Counted:
        if thresholds is not None:
            given = jnp.array(thresholds, jnp.float32)
            whole = given.at[state.count].get(mode="fill", fill_value=jnp.nan)
        elif threshold == "global":
            whole = global_threshold(tau, density, entries)
        else:
            whole = None

        def add(total: jax.Array, tau: jax.Array) -> jax.Array:
            least = tensor_threshold(tau, density) if whole is None else whole
            return total + jnp.where(jnp.isnan(least), jnp.nan, trim(tau, least))

        return Counted(leafwise(add, state.tau, tau), state.count + 1)

    def survey(vectors: TaskVectors) -> MergeRule:
        found = vectors.kth_magnitudes(global_rank(vectors.size, density, entries))
        return magnitude_prune(density, threshold, found, entries)

    return MergeRule(
        Counted.zeros,
        update,
        lambda state: state.tau,
        streaming=True,
        default_scale=0.3,
        scope="entry" if threshold == "global" else "tensor",
        reads_names=False,
        survey=survey if threshold == "global" and thresholds is None else None,
        most_models=None if thresholds is None else len(thresholds),
        per_model=None if thresholds is None else "thresholds",
    )
