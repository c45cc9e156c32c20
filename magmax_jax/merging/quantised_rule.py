"""Collecting rules that keep their task vectors quantised and decode them tensor by tensor."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, together
from magmax_jax.merging.numerics.selection import kth_magnitude
from magmax_jax.merging.quantised import Quantised, dequantise, is_quantised, quantise
from magmax_jax.merging.rule import MergeRule, leaf_name
from magmax_jax.merging.task_vectors import PyTree

Leaves = Sequence[Any]
"""One tensor's value per task: `Quantised`, or arrays that are not merged."""


@functools.cache
def quantised(rule: MergeRule, bits: int) -> MergeRule:
    """A collecting rule whose state holds every task vector quantised by `quantise`.

    Each is coded against the previous one as decoded, so they are decoded in order. The merge is
    bit-identical to the rule on the decoded task vectors. Decoded task vectors are in memory for
    one tensor at a time, or one layer of a stack of layers if the rule's scope is "entry"; for
    scope "model", all at once.

    Args:
      rule: one whose state is the tuple of all task vectors.
      bits: of `quantise`, 8, 4 or 3.

    Raises:
      UserError: the rule needs a Fisher; or (from `init`) its state is not empty before the first
        task.
    """
    if rule.needs_fisher:
        raise UserError(
            "checkpoint.task_bits: one of the merges keeps every task's Fisher with its task "
            "vector, which cannot be kept in few bits: leave out that merge or the bits"
        )

    def init(pretrained: PyTree) -> tuple:
        if jax.tree.leaves(rule.init(pretrained)):
            raise UserError(
                "checkpoint.task_bits: a rule that is not streaming keeps the tuple of all task "
                "vectors as its state, and one of the merges has a different one: leave out that "
                "merge or the bits"
            )
        return ()

    def update(state: tuple, tau: PyTree) -> tuple:
        *_, last = (None, *_decoded(state))
        return (*state, quantise(tau, bits, last))

    def finalize(state: tuple) -> PyTree:
        if rule.scope == "model" or not state:
            return _finalized(rule, _decoded(state))
        complete = rule.survey(_StateTaskVectors(state)) if rule.survey else rule
        names, leaves, structure = _by_leaf(state)
        sliced = complete.scope == "entry" and not complete.reads_names
        merged = (
            _finalized_leaf(complete, name, leaf, sliced)
            for name, leaf in zip(names, leaves, strict=True)
        )
        return jax.tree.unflatten(structure, merged)

    return rule._replace(
        init=init, update=update, finalize=finalize, scope="model", survey=None, of_stack=None
    )


def _finalized(rule: MergeRule, taus: Iterator[PyTree]) -> PyTree:
    state: Any = ()
    for tau in taus:
        state = rule.update(state, tau)
    return rule.finalize(state)


def _finalized_leaf(rule: MergeRule, name: str, leaves: Leaves, sliced: bool) -> jax.Array:
    if not is_quantised(leaves[0]):
        return leaves[0]
    shape = leaves[0].shape

    def merge(pieces: Leaves) -> jax.Array:
        return _finalized(rule, ({name: tau} for tau in _decoded(pieces)))[name]

    if not sliced or len(shape) < 3:
        return merge(leaves)
    return jnp.stack([merge(piece) for piece in _slices(leaves)])


def _slices(leaves: Leaves) -> Iterator[Leaves]:
    """Splits a stack of layers into layers."""
    for i in range(leaves[0].shape[0]):
        yield [Quantised(leaf.data[i], leaf.shape[1:], leaf.bits) for leaf in leaves]


def _decoded(state: Sequence[PyTree]) -> Iterator[PyTree]:
    """The task vectors one after another, each the base of the next."""
    tau = None
    for codes in state:
        tau = dequantise(codes, tau)
        yield tau


def _by_leaf(state: Sequence[PyTree]) -> tuple[list[str], list[Leaves], Any]:
    """Names of all leaves, each leaf's value per task, and the structure of a task vector."""
    flat = [jax.tree_util.tree_flatten_with_path(tau, is_leaf=is_quantised) for tau in state]
    names = [leaf_name(path) for path, _ in flat[0][0]]
    by_task = [[leaf for _, leaf in leaves] for leaves, _ in flat]
    return names, list(zip(*by_task, strict=True)), flat[0][1]


class _StateTaskVectors:
    """`TaskVectors` of a quantised state, for a rule's survey."""

    def __init__(self, state: Sequence[PyTree]):
        self._state = state
        self._leaves = {
            name: leaves
            for name, leaves in zip(*_by_leaf(state)[:2], strict=True)
            if is_quantised(leaves[0])
        }

    @property
    def count(self) -> int:
        return len(self._state)

    @property
    def size(self) -> int:
        return sum(int(np.prod(leaves[0].shape)) for leaves in self._leaves.values())

    def kth_magnitudes(self, k: int) -> list[float]:
        """One whole task vector at a time."""
        return [float(kth_magnitude(tau, k)) for tau in _decoded(self._state)]

    def total(self, function: Callable[[EachTask], jax.Array]) -> np.ndarray:
        compiled, total = jax.jit(function), np.zeros((), np.int64)
        for leaves in self._leaves.values():
            for pieces in _slices(leaves) if len(leaves[0].shape) > 2 else [leaves]:
                taus = together([tau.reshape(-1) for tau in _decoded(pieces)])
                found = np.asarray(compiled(taus))
                if not np.issubdtype(found.dtype, np.integer):
                    raise TypeError(f"the function of `total` gives {found.dtype}, not integers")
                total = total + found.astype(np.int64)
        return total

    def tensors(self) -> Iterator[tuple[PyTree, Iterator[PyTree]]]:
        """theta_0's tensors are zeros: a state does not hold theta_0, and rules use only shapes."""
        for name in sorted(self._leaves):
            leaves = self._leaves[name]
            theta_0 = {name: jnp.zeros(leaves[0].shape, jnp.float32)}
            yield theta_0, ({name: tau} for tau in _decoded(leaves))

    def stacks(self) -> Iterator[tuple[Sequence[str], PyTree, Iterator[PyTree]]]:
        for theta_0, taus in self.tensors():
            stacked = map(_stacked, taus)
            yield list(theta_0), _stacked(theta_0), stacked


def _stacked(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[None], tree)
