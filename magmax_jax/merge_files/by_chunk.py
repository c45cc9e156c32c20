"""Merges in chunks: memory does not depend on the number or size of models."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.merge_files.chunk_sizes import LANES, chunk_length
from magmax_jax.merge_files.drawing import DrawnRows
from magmax_jax.merge_files.outcome import Outcome, applied, differences, narrow, sound
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, chunk_task_vector, stacked, stream
from magmax_jax.merge_files.trimming import Rows, alignment, rows_of
from magmax_jax.merging import MergeRule, apply_task_vector
from magmax_jax.merging.numerics.over_tasks import each
from magmax_jax.merging.rule import State

SAMPLED = 4
"""Rounding losses are counted only in the first of this many parts of a chunk, to save time."""


def by_chunk(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: FileWriter | None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[np.ndarray]]:
    """Merges chunk by chunk; yields the squared norms of each chunk's task vectors, (t,)."""
    names = plan.merged
    template = jax.eval_shape(plan.rule.init, jax.ShapeDtypeStruct((8,), np.float32))
    fields = [i for i, leaf in enumerate(jax.tree.leaves(template)) if leaf.shape]
    scalars = _read_scalars(plan.state, reader, template, names[0]) if plan.state else {}
    stored = [_leaf(plan.state, i, names) for i in fields] if plan.state else []
    sources = [plan.pretrained, *plan.models, *stored]
    length = chunk_length(len(sources) + (len(fields) if next_state else 0))
    models, state = len(plan.models), None
    loops = plan.rule.of_stack or (plan.rule.streaming and _steady(plan.rule, template))
    compiling, keeps = threading.Lock(), next_state is not None

    def wide(chunk: Chunk) -> bool:
        return any(array.dtype == np.float64 for array in chunk.arrays[: 1 + models])

    def merge(chunk: Chunk) -> Any:  # a Merged of NumPy arrays
        theta_0, *rest = chunk.arrays
        before = _assemble(template, fields, rest[models:], scalars) if plan.state else None
        dtype, arrays = plan.out_dtypes[chunk.pieces[0].name], chunk.arrays[: 1 + models]
        if wide(chunk):
            # JAX would round it: NumPy subtracts and adds, and the change is merged around zero.
            dtype = np.dtype(np.float32)
            arrays = (np.zeros(theta_0.shape, dtype), *differences(theta_0, rest[:models]))
        least = rows_of(chunk, plan.least) if plan.least else None
        if loops:
            arrays = (arrays[0], *stacked(arrays[1:]))
        with compiling:  # once, not in every thread
            result = merge_chunk(plan.rule, plan.scale, dtype, keeps, before, least, *arrays)
        return jax.device_get(result)

    chunks = stream(
        names, sources, reader, length, merge, out_dtypes=plan.out_dtypes, align=alignment(plan)
    )
    for chunk, result in chunks:
        theta_0 = chunk.arrays[0]
        merged, unsound, counts, squares, state = result
        if unsound or not np.isfinite(squares).all():
            _check_inputs(sources[: 1 + models], chunk)
        if wide(chunk):
            change, unsound = merged, True
            merged = applied(theta_0, change, 1.0, plan.out_dtypes[chunk.pieces[0].name])
            outcome.count(merged, theta_0, change != 0)
        outcome.add_counts(int((counts & 0xFFFF).sum()), int((counts >> 16).sum()))
        for name, start, count, position in chunk.pieces:
            piece = slice(position, position + count)
            if unsound:
                outcome.check(name, merged[piece], theta_0[piece], start)
            outcome.write(name, merged[piece], theta_0[piece], start)
        if next_state:
            _write_fields(next_state, chunk, fields, state)
        advance(chunk.size * sum(array.itemsize for array in chunk.arrays))
        yield squares
    if next_state and state is not None:
        for i, leaf in enumerate(jax.tree.leaves(state)):
            for name in names if i not in fields else ():
                next_state.write(f"{i}/{name}", np.asarray(leaf))


class Merged(NamedTuple):
    """Result of `merge_chunk`.

    Attributes:
      theta: the merged entries.
      unsound: whether any entry of `theta` is not finite; bool scalar. If False and `squares` are
        finite, every input is finite.
      counts: for narrow dtypes, per 256 entries of a sample, how many the merge changes, and in the
        upper 16 bits how many of these round back to theta_0; uint32 (m,). Otherwise 0.
      squares: the squared norm of every model's task vector; float32 (t,).
      state: the rule's, None if it is not kept.
    """

    theta: jax.Array
    unsound: jax.Array
    counts: jax.Array
    squares: jax.Array
    state: State


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def merge_chunk(
    rule: MergeRule,
    scale: float,
    dtype: np.dtype,
    keeps: bool,
    state: State | None,
    least: Rows | DrawnRows | None,
    theta_0: jax.Array,
    *models: jax.Array,
) -> Merged:
    """Merges one chunk of all models while it is in the CPU cache.

    No task vector is ever in memory. Without `keeps` neither is the state, which is then None.

    Args:
      least: what to keep of the task vectors, or None for all.
      models: (n,) each, or all in one array (t, n); the program is then the same size for any t.
    """
    stored, theta_0 = theta_0, theta_0.astype(jnp.float32)
    state = rule.init(theta_0) if state is None else state
    if models and models[0].ndim == 2:
        state, norms = _in_steps(rule, state, least, theta_0, models[0])
    else:
        for task, model in enumerate(models):
            tau = chunk_task_vector(model, theta_0)
            state = rule.update(state, tau if least is None else least.thin(task, tau))
        norms = squared_norms(theta_0, models)
    tau = rule.finalize(state)
    if not rule.streaming:
        # In memory this is a separate program: its last product is rounded before it is added.
        tau = jax.lax.optimization_barrier(tau)
    if least is not None:
        # Tensor by tensor, the scaled change is rounded before it is added, so do the same here.
        tau, scale = jax.lax.optimization_barrier(scale * tau), 1.0
    base = stored if stored.dtype == dtype else theta_0
    theta = apply_task_vector(base, tau, scale).astype(dtype)
    unsound = jnp.any(~jnp.isfinite(theta))
    counts = jnp.uint32(0)
    if narrow(dtype) and scale:
        sample = slice(0, theta.size // SAMPLED)
        changed = tau[sample] != 0
        lost = changed & (theta[sample] == theta_0[sample].astype(dtype))
        # For 256 entries both counts fit into one number, so one pass finds both.
        both = changed.astype(jnp.uint32) + (lost.astype(jnp.uint32) << 16)
        counts = jnp.sum(both.reshape(-1, 256), axis=1, dtype=jnp.uint32)
    return Merged(theta, unsound, counts, norms, state if keeps else None)


def _steady(rule: MergeRule, state: State) -> bool:
    """Whether a step leaves the state's structure, shapes and dtypes as they are.

    Args:
      state: shapes, for a tensor of shape (8,).
    """
    after = jax.eval_shape(rule.update, state, jax.ShapeDtypeStruct((8,), np.float32))
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (state, after)]
    return bool(kinds[0] == kinds[1])


def _in_steps(
    rule: MergeRule,
    state: State,
    least: Rows | DrawnRows | None,
    theta_0: jax.Array,
    models: jax.Array,
) -> tuple[State, jax.Array]:
    """The state after all models, (t, n), and the squared norms of their task vectors, (t,)."""

    def found(task: jax.Array, model: jax.Array) -> tuple[jax.Array, jax.Array]:
        tau = chunk_task_vector(model, theta_0)
        squares = jnp.square(tau).reshape(-1, LANES)
        norm = jnp.sum(jnp.sum(squares, axis=0))
        return (tau if least is None else least.thin(task, tau)), norm

    def step(state: State, one: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        tau, norm = found(*one)
        return rule.update(state, tau), norm

    tasks = jnp.arange(len(models))
    if rule.of_stack is None:
        return jax.lax.scan(step, state, (tasks, models))
    taus, norms = each(found, tasks, models)
    return rule.of_stack(theta_0, taus), norms


def squared_norms(theta_0: jax.Array, models: Sequence[jax.Array]) -> jax.Array:
    """The sum of squares of every model's task vector in a chunk: float32 (t,).

    Added up in lanes, row by row of the chunk. A plain sum is one long chain of additions, each of
    which waits for the previous one.
    """

    def row(array: jax.Array, i: jax.typing.ArrayLike) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, i * LANES, LANES)

    def add(i: jax.typing.ArrayLike, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        base = row(theta_0, i)
        taus = (chunk_task_vector(row(model, i), base) for model in models)
        return tuple(total + tau * tau for total, tau in zip(totals, taus, strict=True))

    if not models:  # only a state
        return jnp.zeros(0, jnp.float32)
    start = (jnp.zeros(LANES, jnp.float32),) * len(models)
    totals = jax.lax.fori_loop(0, theta_0.size // LANES, add, start)
    return jnp.sum(jnp.stack(totals), axis=1)


def _leaf(state: TensorFiles, i: int, names: Sequence[str]) -> TensorFiles:
    """One leaf of the state, as a source under the model's tensor names."""
    tensors = {name: state.tensors[f"{i}/{name}"] for name in names}
    return TensorFiles(state.directory, state.files, tensors, state.metadata)


def _read_scalars(
    state: TensorFiles, reader: Reader, template: State, name: str
) -> dict[int, np.ndarray]:
    """Leaves shared by all tensors, such as counters, from the first tensor's state."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(template)]
    return {
        i: reader.whole(state.tensors[f"{i}/{name}"]) for i, shape in enumerate(shapes) if not shape
    }


def _assemble(
    template: State,
    fields: Sequence[int],
    arrays: Sequence[np.ndarray],
    scalars: dict[int, np.ndarray],
) -> State:
    filled = dict(zip(fields, arrays, strict=True)) | scalars
    return jax.tree.unflatten(jax.tree.structure(template), [filled[i] for i in sorted(filled)])


def _write_fields(
    next_state: FileWriter, chunk: Chunk, fields: Sequence[int], state: State
) -> None:
    found = jax.tree.leaves(state)
    for i in fields:
        for name, start, count, position in chunk.pieces:
            piece = found[i][position : position + count]
            next_state.write(f"{i}/{name}", piece, start)


def _check_inputs(sources: Sequence[TensorFiles], chunk: Chunk) -> None:
    """Raises a UserError if an input is not finite, except for a -inf that all share."""
    for source, array in zip(sources, chunk.arrays, strict=False):
        for name, start, count, position in chunk.pieces:
            part = slice(position, position + count)
            piece = array[part]
            good = sound(piece, chunk.arrays[0][part])
            if not good.all():
                where = int(np.argmin(good))
                raise UserError(
                    f"{source.place}: {name} holds {piece[where]} at entry {start + where}: "
                    f"this model is broken: fetch it again, or keep theta_0's with --exclude {name}"
                )
    theta_0, *thetas = chunk.arrays[: len(sources)]
    if not all(np.isfinite(tau).all() for tau in differences(theta_0, thetas)):
        name = chunk.pieces[0].name
        raise UserError(
            f"{sources[0].place}: a model's difference from it in {name} exceeds float32: keep "
            f"theta_0's with --exclude {name}"
        )
