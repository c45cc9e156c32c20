"""Merging in chunks: memory does not depend on the number of models or on their size."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.merge_files.outcome import Outcome, applied, differences, narrow, sound
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, chunk_length, chunk_task_vector, stream
from magmax_jax.merging import MergeRule, apply_task_vector
from magmax_jax.merging.rule import State

SAMPLED = 4
"""What rounding takes away is counted in the first of so many parts of a chunk: that costs less."""


def by_chunk(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: FileWriter | None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[np.ndarray]]:
    """Merges chunk after chunk; yields its squared norms in the task vectors, (t,)."""
    names = plan.merged
    template = jax.eval_shape(plan.rule.init, jax.ShapeDtypeStruct((8,), np.float32))
    fields = [i for i, leaf in enumerate(jax.tree.leaves(template)) if leaf.shape]
    scalars = _read_scalars(plan.state, reader, template, names[0]) if plan.state else {}
    stored = [_leaf(plan.state, i, names) for i in fields] if plan.state else []
    sources = [plan.pretrained, *plan.models, *stored]
    length = chunk_length(len(sources) + (len(fields) if next_state else 0))
    models, state = len(plan.models), None
    for chunk in stream(names, sources, reader, length, out_dtypes=plan.out_dtypes):
        theta_0, *rest = chunk.arrays
        before = None
        if plan.state:
            before = _assemble(template, fields, rest[models:], scalars)
        dtype = plan.out_dtypes[chunk.pieces[0].name]
        wide = any(array.dtype == np.float64 for array in chunk.arrays[: 1 + models])
        if wide:  # JAX would round it: NumPy subtracts and adds, and the change is merged around 0
            taus = differences(theta_0, rest[:models])
            around = (np.zeros(theta_0.shape, np.float32), *taus)
            result = merge_chunk(plan.rule, plan.scale, around[0].dtype, before, *around)
        else:
            result = merge_chunk(plan.rule, plan.scale, dtype, before, theta_0, *rest[:models])
        merged, broken, unsound, counts, squares, state = jax.device_get(result)
        if wide:
            change, merged, unsound = merged, applied(theta_0, merged, 1.0, dtype), True
            outcome.count(merged, theta_0, change != 0)
        if broken:
            _refuse(sources[: 1 + models], chunk)
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
    """What `merge_chunk` makes of a chunk.

    Attributes:
      theta: the merged entries.
      broken: whether an input is not finite, but for a -inf that all share; bool scalar.
      unsound: whether an entry of `theta` is not finite; bool scalar.
      counts: of a narrow dtype, for every 256 entries of a sample, how many the merge changes, and
        in the upper 16 bits how many of these rounding makes theta_0's again; uint32 (m,). Else 0.
      squares: of every model, the squared norm of its task vector.
      state: the rule's.
    """

    theta: jax.Array
    broken: jax.Array
    unsound: jax.Array
    counts: jax.Array
    squares: list[jax.Array]
    state: State


@partial(jax.jit, static_argnums=(0, 1, 2))
def merge_chunk(
    rule: MergeRule,
    scale: float,
    dtype: np.dtype,
    state: State | None,
    theta_0: jax.Array,
    *models: jax.Array,
) -> Merged:
    """One chunk of all models, merged.

    One compiled pass: every array is read once, and no task vector is ever in memory.
    """
    stored, theta_0 = theta_0, theta_0.astype(jnp.float32)
    state = rule.init(theta_0) if state is None else state
    # x - x is zero for finite numbers and NaN for all others.
    squares, odd = [], jnp.where(theta_0 == -jnp.inf, 0, theta_0 - theta_0)
    for model in models:
        tau = chunk_task_vector(model, theta_0)
        state = rule.update(state, tau)
        squares.append(jnp.sum(tau * tau))
        odd = odd + (tau - tau)
    tau = rule.finalize(state)
    if not rule.streaming:
        # In memory it is a program of its own: its last product is rounded before it is added.
        tau = jax.lax.optimization_barrier(tau)
    base = stored if stored.dtype == dtype else theta_0
    theta = apply_task_vector(base, tau, scale).astype(dtype)
    broken, unsound = jnp.any(odd != 0), jnp.any(~jnp.isfinite(theta))
    counts = jnp.uint32(0)
    if narrow(dtype) and scale:
        sample = slice(0, theta.size // SAMPLED)
        changed = tau[sample] != 0
        lost = changed & (theta[sample] == theta_0[sample].astype(dtype))
        # Of 256 entries both counts fit into one number, so that one pass finds both.
        both = changed.astype(jnp.uint32) + (lost.astype(jnp.uint32) << 16)
        counts = jnp.sum(both.reshape(-1, 256), axis=1, dtype=jnp.uint32)
    return Merged(theta, broken, unsound, counts, squares, state)


def _leaf(state: TensorFiles, i: int, names: Sequence[str]) -> TensorFiles:
    """One leaf of the state as a source with the model's own names."""
    tensors = {name: state.tensors[f"{i}/{name}"] for name in names}
    return TensorFiles(state.directory, state.files, tensors, state.metadata)


def _read_scalars(
    state: TensorFiles, reader: Reader, template: State, name: str
) -> dict[int, np.ndarray]:
    """The leaves that all tensors share, counters for instance, from the first tensor's state."""
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


def _refuse(sources: Sequence[TensorFiles], chunk: Chunk) -> None:
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
    name = chunk.pieces[0].name
    raise UserError(
        f"{sources[0].place}: a model's difference from it in {name} exceeds float32: keep "
        f"theta_0's with --exclude {name}"
    )
