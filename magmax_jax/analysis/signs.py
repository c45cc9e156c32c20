"""Sign conflicts: parameters that some tasks increase and others decrease.

The second hypothesis of MagMax (Marczak et al., 2024, arXiv 2407.06322): the task vectors of
sequential fine-tuning agree on more signs than those of independent fine-tuning. Conflicts are
counted among the entries of high magnitude, as in TIES (Yadav et al., 2023, arXiv 2306.01708): the
largest share of each task vector's entries, taken separately.

Shares are nested, so one number per sign covers all of them: an entry's level, the number of shares
that contain it. Counting after task t costs one pass over the state, whose size depends neither on
the tasks nor on the shares.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.analysis.leaves import named_leaves
from magmax_jax.analysis.pruning import check_share, threshold
from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.task_vectors import PyTree, check_alike

KEPT = (1.0, 0.5, 0.2, 0.1, 0.05, 0.01)
"""Default shares of each task vector's entries, the largest, that are used."""
ALL = "all"
"""The part to which every leaf belongs."""


class Levels(NamedTuple):
    """Summary of the signs of tau_1 ... tau_T; the levels are uint8, three for each entry.

    Attributes:
      plus: the highest level among tasks that increased the entry, 0 if none did; by leaf name.
      minus: the same for tasks that decreased it.
      second: the second highest level among all tasks, 0 if fewer than two changed the entry.
      tasks: T, int32 scalar.
    """

    plus: dict[str, jax.Array]
    minus: dict[str, jax.Array]
    second: dict[str, jax.Array]
    tasks: jax.Array


class SignConflicts(NamedTuple):
    """Exact counts of entries in a part of the model.

    Attributes:
      tasks: T, the number of task vectors.
      kept: the share of each task vector's entries, the largest, that is used.
      part: its name, or "all".
      entries: all entries of the part.
      changed: those that at least one task changed and kept.
      shared: those that at least two did.
      conflicts: those that one of these tasks increased and another decreased.
    """

    tasks: int
    kept: float
    part: str
    entries: int
    changed: int
    shared: int
    conflicts: int

    def record(self) -> dict[str, int | float | str | None]:
        """The counts as fractions of all entries, and of the shared ones (None if none are)."""
        counts = {name: getattr(self, name) for name in ("changed", "shared", "conflicts")}
        return {
            **self._asdict(),
            **{name: count / max(self.entries, 1) for name, count in counts.items()},
            "of_shared": self.conflicts / self.shared if self.shared else None,
        }


def sign_conflicts(
    taus: Iterable[PyTree],
    kept: Sequence[float] = KEPT,
    part_of: Callable[[str], str] = lambda name: ALL,
) -> Iterator[SignConflicts]:
    """The sign conflicts among the first T task vectors, for T = 2, 3, ..., each read once.

    Args:
      taus: tau_1, tau_2, ..., pytrees of one structure; their entries are finite. With a generator
        that loads one at a time, only one is in memory.
      kept: shares in [0, 1]. An entry counts for a task if its magnitude is at least that of the
        int(kept n)-th largest of the task's n, and it is not zero.
      part_of: a leaf's name -> the part that it belongs to, such as its kind of weight.

    Yields:
      For each T, each share from the largest, "all" and then every part. Nothing for one task.

    Raises:
      UserError: a share is outside [0, 1], there are none or more than 255, or the task vectors
        differ in names or shapes.

    >>> taus = [jnp.array([1.0, -2.0, 3.0]), jnp.array([1.0, 2.0, 0.0])]
    >>> [found] = sign_conflicts(taus, kept=[1.0])
    >>> found.changed, found.shared, found.conflicts
    (3, 2, 1)
    """
    state = None
    for tau in taus:
        state = init(tau) if state is None else state
        state = update(state, tau, thresholds(tau, kept))
        del tau  # before a generator loads the next one
        if state.tasks >= 2:
            yield from finalize(state, kept, part_of)


def init(tau: PyTree) -> Levels:
    """The state before any task, sharded like the task vector."""
    like = named_leaves(tau)

    def nothing() -> dict[str, jax.Array]:
        return {name: jnp.zeros_like(leaf, dtype=jnp.uint8) for name, leaf in like.items()}

    return Levels(nothing(), nothing(), nothing(), jnp.int32(0))


def thresholds(tau: PyTree, kept: Sequence[float] = KEPT) -> jax.Array:
    """The least magnitude in each share, over the whole task vector: (s,).

    Raises:
      UserError: a share is outside [0, 1], or there are none or more than 255.
    """
    if not 1 <= len(kept) <= 255:
        raise UserError(f"{len(kept)} shares cannot be kept: give 1 to 255")
    for share in kept:
        check_share(share)
    return jnp.stack([threshold(tau, share) for share in kept])


def update(state: Levels, tau: PyTree, thresholds: jax.Array) -> Levels:
    """The state after one more task; the old state's buffers become the new one's.

    Args:
      state: for leaves of tau's names and shapes.
      tau: the task vector, or some leaves of it.
      thresholds: float32 (s,), in any order, for the whole task vector.

    Raises:
      UserError: the leaves are not those of the state.
    """
    leaves = named_leaves(tau)
    check_alike(leaves, state.plus, dtypes=False)
    return _update(state, leaves, thresholds)


def finalize(
    state: Levels, kept: Sequence[float] = KEPT, part_of: Callable[[str], str] = lambda name: ALL
) -> Iterator[SignConflicts]:
    """The counts for each share, from the largest, over "all" entries and over every part.

    Args:
      state: unchanged.
      kept: the shares that its thresholds were for.
      part_of: as for `sign_conflicts`.
    """
    counts = {
        name: np.asarray(count) for name, count in _counts(state, shares=len(kept)).items()
    }  # int32 (s, 3): fits one leaf's counts, maybe not a model's
    leaves_of: dict[str, list[str]] = {ALL: list(counts)}
    for name in counts:
        if (part := part_of(name)) != ALL:
            leaves_of.setdefault(part, []).append(name)
    for level, share in enumerate(sorted(kept, reverse=True)):
        for part, names in leaves_of.items():
            size = sum(state.plus[name].size for name in names)
            found = (sum(int(counts[name][level, i]) for name in names) for i in range(3))
            yield SignConflicts(int(state.tasks), share, part, size, *found)


@jit_on_any_mesh(donate_argnums=0)
def _update(state: Levels, leaves: dict[str, jax.Array], thresholds: jax.Array) -> Levels:
    plus, minus, second = {}, {}, {}
    for name, leaf in leaves.items():
        magnitude = jnp.abs(leaf.astype(jnp.float32))
        level = sum((magnitude >= least).astype(jnp.uint8) for least in thresholds)
        before = jnp.maximum(state.plus[name], state.minus[name])
        up, down = jnp.where(leaf > 0, level, 0), jnp.where(leaf < 0, level, 0)
        plus[name] = jnp.maximum(state.plus[name], up)
        minus[name] = jnp.maximum(state.minus[name], down)
        second[name] = jnp.maximum(state.second[name], jnp.minimum(before, up | down))
    return Levels(plus, minus, second, state.tasks + 1)


@jit_on_any_mesh(like=None, static_argnums=1)
def _counts(state: Levels, shares: int) -> dict[str, jax.Array]:
    """For every leaf, the entries changed, shared and in conflict at each level: int32 (s, 3)."""

    def count(plus: jax.Array, minus: jax.Array, second: jax.Array) -> jax.Array:
        levels = (jnp.maximum(plus, minus), second, jnp.minimum(plus, minus))
        reached = tuple(
            (x >= level).astype(jnp.int32) for level in range(1, shares + 1) for x in levels
        )
        # One reduction with many operands reads the memory once; separate ones each read it.
        zeros = (jnp.int32(0),) * len(reached)
        sums = jax.lax.reduce(
            reached, zeros, lambda a, b: tuple(map(jnp.add, a, b)), range(plus.ndim)
        )
        return jnp.stack(sums).reshape(shares, 3)

    return {
        name: count(state.plus[name], state.minus[name], state.second[name]) for name in state.plus
    }
