"""Merges tensor by tensor, or all tensors as one tree, as the rule's scope requires."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.reader import Reader
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.merge_files.aligned import aligned
from magmax_jax.merge_files.groups import fed, groups
from magmax_jax.merge_files.outcome import Outcome, hidden
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.side_by_side import one_thread_each, side_by_side
from magmax_jax.merge_files.spill import Spill
from magmax_jax.merge_files.whole_tensors import (
    check_finite,
    read,
    read_state,
    task_vectors,
    unmasked,
)
from magmax_jax.merging import fold, merged
from magmax_jax.merging.numerics import over_tasks
from magmax_jax.merging.rule import Settle, State


class Merged(NamedTuple):
    """A group of tensors of one shape, merged or, for a rule to be settled, folded.

    Attributes:
      stored: theta_0's, as in its file, (n, *shape).
      state: the rule's after every model; for n tensors each array has a leading axis of n.
      squares: squared norm of every task vector.
      found: float32 (n, *shape), the merged task vectors; or (n, m), what the rule measures.
    """

    names: Sequence[str]
    stored: np.ndarray
    state: State
    squares: list[jax.Array | float]
    found: np.ndarray


def by_tensor(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: FileWriter | None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array | float]]:
    """Merges group by group; yields the squared norms of each group's task vectors, (t,)."""
    # Closed at once after an error, so that no thread keeps reading.
    with contextlib.closing(_each(plan, reader)) as each:
        if plan.rule.settle:
            yield from _settled(plan, plan.rule.settle, each, reader, outcome, advance)
            return
        for group in each:
            outcome.apply(group.names, group.stored, group.found)
            if next_state:
                for i, leaf in enumerate(jax.tree.leaves(group.state)):
                    whole = np.asarray(leaf)
                    rows = whole[None] if len(group.names) == 1 else whole
                    for name, part in zip(group.names, rows, strict=True):
                        next_state.write(f"{i}/{name}", part)
            advance(plan.nbytes(group.names))
            yield group.squares


def _settled(
    plan: Plan,
    settle: Settle,
    each: Iterator[Merged],
    reader: Reader,
    outcome: Outcome,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array | float]]:
    """`by_tensor` if `finalize` needs something from all tensors: states are spilled until then.

    Such states cannot be extended by further models, so they are not kept in a file.
    """
    numbers: dict[str, np.ndarray] = {}
    with Spill(outcome.scratch) as spill:
        structures: list[Any] = []  # JAX ships no stubs of PyTreeDef
        for group in each:
            numbers.update(zip(group.names, group.found, strict=True))
            leaves, structure = jax.tree.flatten(group.state)
            structures.append(structure)
            for leaf in leaves:
                spill.put(np.asarray(leaf))
            advance(plan.nbytes(group.names))
            yield group.squares
        rule = settle.complete(numbers)
        spill.rewind()
        for names, structure in zip(groups(plan), structures, strict=True):
            state = jax.tree.unflatten(
                structure, [jnp.asarray(spill.take()) for _ in range(structure.num_leaves)]
            )
            completed = fed(rule, names, plan.pretrained.tensors[names[0]].shape)
            found = np.asarray(completed.finalize(state)[completed.key])
            stored = read(plan.pretrained, names, reader)
            outcome.apply(names, stored, found[None] if len(names) == 1 else found)


def _each(plan: Plan, reader: Reader) -> Generator[Merged]:
    """All groups in order, several computed at once if that is faster for the rule."""
    merge = partial(_merge, plan, reader)
    if not plan.rule.decomposes:
        yield from map(merge, groups(plan))
        return
    with one_thread_each():
        yield from side_by_side(merge, groups(plan), plan.held)


def _merge(plan: Plan, reader: Reader, names: list[str]) -> Merged:
    rule = fed(plan.rule, names, plan.pretrained.tensors[names[0]].shape)
    alone = len(names) == 1
    stored = read(plan.pretrained, names, reader)
    check_finite(plan.pretrained, names, stored, stored)
    theta_0 = stored[0] if alone else stored
    state = rule.init({rule.key: jnp.asarray(theta_0, np.float32)})
    if plan.state:
        state = read_state(plan.state, names, state, reader)
    squares: list[jax.Array | float] = []
    norms: list[jax.Array] = []
    # One array of many models from the start: joining their arrays would need twice the memory.
    count, stack = len(plan.models), None
    if rule.of_stack and count > over_tasks.UNROLLED:
        stack = aligned((len(names), count, *stored.shape[1:]), np.float32)
    theta = None
    for task, model in enumerate(plan.models):
        theta = read(model, names, reader, theta)
        tau = task_vectors(model, names, stored, theta)
        if stack is not None:
            stack[:, task] = tau
            squares.append(float(np.sum(np.square(tau, dtype=np.float64))))
            continue
        array = jax.device_put(tau[0] if alone else tau)
        state = rule.update(state, {rule.key: array})
        if rule.settle:
            norms.append(rule.settle.squared_norm(array))
        squares.append(
            _squared(array) if alone else float(np.sum(np.square(tau, dtype=np.float64)))
        )
    if rule.of_stack and stack is not None:
        taus = jax.device_put(stack[0] if alone else stack)
        state = rule.of_stack({rule.key: jnp.asarray(theta_0, np.float32)}, {rule.key: taus})
    if rule.settle:
        found = np.asarray(rule.settle.measure(state, norms))
    else:
        found = np.asarray(rule.finalize(state)[rule.key])
    return Merged(names, stored, state, squares, found[None] if alone else found)


@jax.jit
def _squared(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x))


def as_one_tree(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array]]:
    """Merges all tensors together, like `magmax_jax.merge`; yields like `by_tensor`.

    The state does not split into states of single tensors, so it is not kept in a file.
    """
    stored = {name: read(plan.pretrained, [name], reader)[0] for name in plan.merged}
    for name, array in stored.items():
        check_finite(plan.pretrained, [name], array[None], array[None])
    advance(sum(array.nbytes for array in stored.values()))
    # JAX would round float64, so NumPy subtracts and adds, and the change is merged around zero.
    sources = (plan.pretrained, *plan.models)
    wide = {n for n in plan.merged if any(s.tensors[n].dtype == np.float64 for s in sources)}
    theta_0 = {
        name: jnp.zeros(array.shape) if name in wide else unmasked(array)
        for name, array in stored.items()
    }
    state, squares = plan.rule.init(theta_0), []
    for model in plan.models:
        theta, norms = {}, []
        for name, array in stored.items():
            whole = read(model, [name], reader)
            tau = task_vectors(model, [name], array[None], whole)[0]
            norms.append(jnp.sum(jnp.square(tau)))
            theta[name] = jnp.asarray(tau) if name in wide else unmasked(whole[0])
        advance(sum(model.tensors[name].nbytes for name in plan.merged))
        squares.append(norms)
        state = fold(plan.rule, state, theta, theta_0)
        del theta
    found = merged(plan.rule, state, theta_0, plan.scale)
    for name, array in stored.items():
        value, before = np.asarray(found[name])[None], np.asarray(theta_0[name])[None]
        if name in wide:
            outcome.apply([name], array[None], value, scale=1.0)
        else:
            changed = (value != before) & ~hidden(array[None])
            outcome.put([name], array[None], value, changed)
    yield from zip(*squares, strict=True)
