"""Rules that let the tasks vote on every entry: on its sign, or on keeping it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.numerics.over_tasks import EachTask, largest_over, sum_over, together
from magmax_jax.merging.rule import (
    Collected,
    Count,
    MergeRule,
    Trims,
    collected,
    collecting,
    factory,
    leafwise_collected,
)
from magmax_jax.merging.rules.magnitude import (
    Threshold,
    check_trimming,
    global_rank,
    global_threshold,
    tensor_rank,
    tensor_thresholds,
    trim,
)
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import PyTree, is_merged
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

Elect = Literal["mass", "count"]
Aggregate = Literal["mean", "sum", "max"]


@RULES.register("ties")
@factory
def ties(
    density: float = 0.2,
    threshold: Threshold = "global",
    elect: Elect = "mass",
    aggregate: Aggregate = "mean",
    thresholds: Sequence[float] | None = None,
    majority: int | None = None,
    entries: int | None = None,
) -> MergeRule:
    """TIES: trim every task vector, elect a sign for every entry, merge the values that agree.

        tau_t' = tau_t where |tau_t^p| >= the threshold of task t, else 0
        sign   = sgn(sum_t tau_t')      or, elected by count, sgn(sum_t sgn(tau_t'))
        tau    = mean over t of the tau_t' that are not zero and have that sign

    Yadav et al., 2023 (arXiv 2306.01708). The defaults follow MagMax's official code: it keeps the
    largest fifth of the whole task vector, and where the elected sign is zero (the tasks cancel
    exactly) uses the majority of all elected signs. peft and mergekit trim tensor by tensor, keep
    one entry fewer (`tensor_threshold`) and take plus for zero: `ties(threshold="per_tensor",
    majority=1)`. Entries equal to the threshold are all kept, as in the official code; peft and
    mergekit keep as many of them as fit. Default scale 0.55. Collects all task vectors. Order
    affects only rounding.

    Args:
      density: the share of entries to keep.
      threshold: "global" over the floating-point entries of a task vector, or "per_tensor".
      elect: "mass" weighs each vote by its magnitude, "count" does not (peft's "frequency").
      aggregate: "mean", "sum" or "max"imal magnitude of the values that agree.
      thresholds: the global threshold of every task, in order, for callers that merge leaf by leaf
        (`global_threshold`, `kth_magnitudes_counted`).
      majority: the majority sign, -1, 0 or 1, for the same callers: the sign of the sum of
        `sign_balance` over all leaves. It decides entries that cancel exactly.
      entries: a denominator for the global threshold larger than the tree's own: see `global_rank`.

    Raises:
      UserError: an argument is invalid; or, when merging, there are not as many `thresholds` as
        task vectors.
    """
    check_trimming("ties", density, threshold, thresholds)
    if elect not in ("mass", "count"):
        raise UserError(f"ties: elect is {elect!r}: choose mass or count")
    if aggregate not in ("mean", "sum", "max"):
        raise UserError(f"ties: aggregate is {aggregate!r}: choose mean, sum or max")

    def finalize(taus: Collected) -> PyTree:
        count = collected(taus)
        if thresholds is not None and len(thresholds) != count:
            raise UserError(
                f"ties: {len(thresholds)} thresholds for {count} task vectors: give one for each"
            )
        if threshold == "per_tensor":
            least = None
        elif thresholds is not None:
            least = jnp.array(thresholds, jnp.float32)
        else:
            least = jnp.stack([global_threshold(tau, density, entries) for tau in taus])

        def own(leaves: EachTask) -> jax.Array:
            return tensor_thresholds(leaves, density) if least is None else least

        def balance(leaves: EachTask) -> jax.Array:
            return sign_balance(leaves, own(leaves), elect)

        if majority is None:
            by_leaf = zip(*map(jax.tree.leaves, taus), strict=True)
            sign = _sign_of_sum([balance(together(of)) for of in by_leaf if is_merged(of[0])])
        else:
            sign = jnp.float32(majority)
        return leafwise_collected(
            lambda _, leaves: _trim_and_merge(leaves, own(leaves), sign, elect, aggregate), taus
        )

    def survey(vectors: TaskVectors) -> MergeRule:
        least, sign = thresholds, majority
        if threshold == "global" and least is None:
            least = vectors.kth_magnitudes(global_rank(vectors.size, density, entries))
        if sign is None:
            sign = _majority(vectors, density, least, elect)
        return ties(density, threshold, elect, aggregate, least, sign, entries)

    def trimmed(count: int, total: Callable[[Count], np.ndarray]) -> MergeRule:
        everything, sign = (0.0,) * count, majority
        if sign is None:
            least = jnp.array(everything, jnp.float32)
            sign = _sign(int(total(lambda taus: sign_balance(taus, least, elect))))
        return ties(1.0, "global", elect, aggregate, everything, sign)

    complete = majority is not None and (threshold == "per_tensor" or thresholds is not None)
    return collecting(
        finalize,
        default_scale=0.55,
        stacks=complete,
        scope="entry" if threshold == "global" else "tensor",
        reads_names=False,
        survey=None if complete else survey,
        most_models=None if thresholds is None else len(thresholds),
        per_model=None if thresholds is None else "thresholds",
        trims=Trims(lambda size, task: tensor_rank(size, density), trimmed)
        if threshold == "per_tensor"
        else None,
    )


def _majority(
    vectors: TaskVectors, density: float, thresholds: Sequence[float] | None, elect: Elect
) -> int:
    """The sign that most entries elect, with thresholds over the whole vector or per tensor."""
    if thresholds is not None:
        least = jnp.array(thresholds, jnp.float32)
        balance = int(vectors.total(lambda taus: sign_balance(taus, least, elect)))
    else:
        balance = 0
        for _, taus in vectors.tensors():
            leaves = together([leaf for tau in taus for leaf in jax.tree.leaves(tau)])
            least = tensor_thresholds(leaves, density)
            balance += int(sign_balance(leaves, least, elect))
    return _sign(balance)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


@jit_on_any_mesh(like=None, static_argnums=2)
def sign_balance(leaves: EachTask, thresholds: jax.Array, elect: Elect) -> jax.Array:
    """Number of entries of one tensor that elect plus, less those that elect minus: int32 scalar.

    Args:
      leaves: that tensor's change by every task.
      thresholds: (t,), the least magnitude at which each task's entries take part.
      elect: as for `ties`, whose `majority` is the sign of the sum of these over all tensors.
    """
    return jnp.sum(elected_signs(elect, leaves, thresholds).astype(jnp.int32))


def elected_signs(elect: Elect, *trimming: EachTask) -> jax.Array:
    """-1, 0 or 1 for every entry: the sign of the sum of the votes or of their signs.

    Args:
      trimming: `trim`'s arguments for each task, or already trimmed task vectors.
    """
    vote = (lambda tau: tau) if elect == "mass" else jnp.sign
    return jnp.sign(sum_over(lambda *one: vote(_trimmed(*one)), *trimming))


def elect_and_merge(
    majority: jax.Array, elect: Elect, aggregate: Aggregate, *trimming: EachTask
) -> jax.Array:
    """One tensor of `ties` after trimming: the aggregate of the entries with the elected sign.

    Without an elected sign and a majority (both zero) the negative entries are merged, and their
    "max" is zero, as in the official code.

    Args:
      trimming: as for `elected_signs`.
    """
    signs = elected_signs(elect, *trimming)
    signs = jnp.where(signs == 0, majority, signs)

    def agreeing(*one: jax.Array) -> jax.Array:
        tau = _trimmed(*one)
        return jnp.where(jnp.where(signs > 0, tau > 0, tau < 0), tau, 0.0)

    def counted(*one: jax.Array) -> tuple[jax.Array, jax.Array]:
        tau = agreeing(*one)
        return tau, (tau != 0).astype(jnp.int32)

    if aggregate == "max":
        return largest_over(agreeing, *trimming) * signs
    if aggregate == "sum":
        return jnp.asarray(sum_over(agreeing, *trimming))
    total, number = sum_over(counted, *trimming)
    return jnp.asarray(total / jnp.maximum(number, 1))


def _trimmed(tau: jax.Array, *threshold: jax.Array) -> jax.Array:
    return trim(tau, *threshold) if threshold else tau


@partial(jit, static_argnames=("elect", "aggregate"))
def _trim_and_merge(
    leaves: EachTask,
    thresholds: jax.Array,
    majority: jax.Array,
    elect: Elect,
    aggregate: Aggregate,
) -> jax.Array:
    return elect_and_merge(majority, elect, aggregate, leaves, thresholds)


def _sign_of_sum(balances: Sequence[jax.Array]) -> jax.Array:
    """The sign of a sum of int32 numbers, added in two limbs because it may exceed 32 bits."""
    low = sum(balance & 0xFFFF for balance in balances)
    high = sum(balance >> 16 for balance in balances) + (low >> 16)
    return jnp.where(high == 0, jnp.sign(low & 0xFFFF), jnp.sign(high)).astype(jnp.float32)


@RULES.register("consensus")
@factory
def consensus(votes: int = 2, tall_lambda: float = 0.4, increments: bool = False) -> MergeRule:
    """The sum of the task vectors, without entries that fewer than `votes` tasks depend on.

        total = sum_t tau_t
        m_t   = |tau_t^p| > tall_lambda |total^p - tau_t^p|          the TALL mask of task t
        tau   = total where at least `votes` tasks have m_t, else 0

    Consensus task arithmetic, Wang et al., 2024 (arXiv 2405.07813); `>` as in the release. The
    paper has `>=`, under which untouched entries count as used. The release picks lambda per task
    on validation data from 0.2 ... 0.6; this uses one for all. Default scale 0.3, that of the sum.
    Collects all task vectors. Order affects only rounding. A single task has no consensus.

    It is designed for models fine-tuned independently. A task vector of a sequential run contains
    those before it. If all T of them are equal, each is 1 / (T - 1) of the sum of the others, so
    for T > 1 + 1 / tall_lambda tasks (from four, by default) the masks drop exactly what all agree
    on, and the sum counts early changes most. With `increments` each task counts only its own
    change, d_t = tau_t - tau_(t-1): total = sum_t d_t = tau_T, m_t = |d_t| > tall_lambda
    |total - d_t|. This is the last model without the entries that fewer than `votes` tasks shaped;
    default scale 1, and order matters.

    Args:
      votes: how many tasks must depend on an entry; 1 removes only what no task uses, 0 nothing.
      tall_lambda: how small a task's entry may be, relative to the others' sum, and still count.
      increments: for models fine-tuned one from another.

    Raises:
      UserError: votes or tall_lambda is negative.
    """
    if votes < 0 or tall_lambda < 0:
        raise UserError(
            f"consensus: votes {votes} and tall_lambda {tall_lambda} must not be negative"
        )

    @jit
    def agree(taus: EachTask) -> jax.Array:
        total = taus[-1] if increments else sum_over(lambda tau: tau, taus)

        def used(tau: jax.Array, *before: jax.Array) -> jax.Array:
            change = tau - before[0] if before else tau
            return (jnp.abs(change) > tall_lambda * jnp.abs(total - change)).astype(jnp.int32)

        count = sum_over(used, taus, *([_before(taus)] if increments else ()))
        return jnp.where(count >= votes, total, 0.0)

    return collecting(
        lambda taus: leafwise_collected(lambda _, leaves: agree(leaves), taus),
        default_scale=1.0 if increments else 0.3,
        stacks=True,
        scope="entry",
        reads_names=False,
    )


def _before(taus: EachTask) -> EachTask:
    """The task vector before each task: zero, then all but the last."""
    if isinstance(taus, jax.Array):
        return jnp.concatenate([jnp.zeros_like(taus[:1]), taus[:-1]])
    return [jnp.zeros_like(taus[0]), *taus[:-1]]
