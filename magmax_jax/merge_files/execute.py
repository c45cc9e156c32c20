"""Merging checkpoints out of core: what is in memory does not depend on their number or size."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import DirectoryWriter, FileWriter
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, chunk_length, stream
from magmax_jax.merging import MergeRule, apply_task_vector, task_vector


class Job(NamedTuple):
    """One merge: where everything comes from and goes."""

    pretrained: TensorFiles
    models: Sequence[TensorFiles]
    plan: Plan
    rule: MergeRule
    chunked: bool
    """The rule treats every entry alike, wherever it is, so it may be fed in chunks."""
    nameless: bool
    """The rule does not ask for the names of tensors, as those do that draw."""
    scale: float
    output: DirectoryWriter
    state: TensorFiles | None = None
    """The state before, None at the beginning."""
    next_state: FileWriter | None = None
    """Where the state after goes, None for nowhere."""
    advance: Callable[[int], None] = lambda nbytes: None
    """Called with the bytes just read."""


def merge_files(job: Job) -> np.ndarray:
    """Runs the job; returns every model's |tau| over all merged tensors, float64 (t,).

    Raises:
      UserError: an input is not finite (the tensor is named), or a file became shorter.
    """
    with Reader() as reader:
        for name in job.plan.kept:
            job.output.write(name, reader.whole(job.pretrained.tensors[name]))
            job.advance(job.pretrained.tensors[name].nbytes)
        squares = np.zeros(len(job.models))
        for some in (_in_chunks if job.chunked else _by_tensor)(job, reader):
            squares += np.asarray(some, np.float64)
    return np.sqrt(squares)


def _in_chunks(job: Job, reader: Reader):
    """Yields every chunk's squared norms of the task vectors."""
    names = job.plan.merged
    template = jax.eval_shape(job.rule.init, jax.ShapeDtypeStruct((8,), np.float32))
    fields = [i for i, leaf in enumerate(jax.tree.leaves(template)) if leaf.shape]
    scalars = _read_scalars(job, reader, template, names[0]) if job.state and names else None
    stored = [_leaf(job.state, i, names) for i in fields] if job.state else []
    sources = [job.pretrained, *job.models, *stored]
    length = chunk_length(len(sources) + (len(fields) if job.next_state else 0))
    models, state = len(job.models), None
    for chunk in stream(names, sources, reader, length):
        theta_0, *rest = chunk.arrays
        before = None
        if job.state:
            before = _assemble(template, fields, rest[models:], scalars)
        dtype = job.plan.out_dtypes[chunk.pieces[0].name]
        result = merge_chunk(job.rule, job.scale, dtype, before, theta_0, *rest[:models])
        merged, finite, squares, state = jax.device_get(result)
        if not finite:
            _refuse(sources[: 1 + models], chunk)
        for name, start, count, position in chunk.pieces:
            job.output.write(name, merged[position : position + count], start)
        if job.next_state:
            _write_fields(job, chunk, fields, state)
        job.advance(chunk.count * sum(array.itemsize for array in chunk.arrays))
        yield squares
    if job.next_state and state is not None:
        for i, leaf in enumerate(jax.tree.leaves(state)):
            for name in names if i not in fields else ():
                job.next_state.write(f"{i}/{name}", np.asarray(leaf))


@partial(jax.jit, static_argnums=(0, 1, 2))
def merge_chunk(
    rule: MergeRule, scale: float, dtype: np.dtype, state, theta_0: jax.Array, *models: jax.Array
):
    """All models' chunk in; the merged chunk, whether every input is finite, squared norms, state.

    One compiled pass: every array is read once, and no task vector is ever in memory.
    """
    theta_0 = theta_0.astype(jnp.float32)
    state = rule.init(theta_0) if state is None else state
    squares, odd = [], theta_0 - theta_0  # x - x is zero for finite numbers and NaN for all others
    for model in models:
        tau = task_vector(model.astype(jnp.float32), theta_0)
        state = rule.update(state, tau)
        squares.append(jnp.sum(tau * tau))
        odd = odd + (tau - tau)
    merged = apply_task_vector(theta_0, rule.finalize(state), scale).astype(dtype)
    return merged, jnp.all(odd == 0), squares, state


def _leaf(state: TensorFiles, i: int, names: Sequence[str]) -> TensorFiles:
    """One leaf of the state as a source with the model's own names."""
    tensors = {name: state.tensors[f"{i}/{name}"] for name in names}
    return TensorFiles(state.directory, state.files, tensors, state.metadata)


def _read_scalars(job: Job, reader: Reader, template, name: str) -> dict[int, np.ndarray]:
    """The leaves that all tensors share, counters for instance, from the first tensor's state."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(template)]
    return {
        i: reader.whole(job.state.tensors[f"{i}/{name}"])
        for i, shape in enumerate(shapes)
        if not shape
    }


def _assemble(template, fields, arrays, scalars):
    filled = dict(zip(fields, arrays, strict=True)) | scalars
    return jax.tree.unflatten(jax.tree.structure(template), [filled[i] for i in sorted(filled)])


def _write_fields(job: Job, chunk: Chunk, fields, state) -> None:
    found = jax.tree.leaves(state)
    for i in fields:
        for name, start, count, position in chunk.pieces:
            piece = found[i][position : position + count]
            job.next_state.write(f"{i}/{name}", piece, start)


def _refuse(sources: Sequence[TensorFiles], chunk: Chunk) -> None:
    for source, array in zip(sources, chunk.arrays, strict=False):
        for name, start, count, position in chunk.pieces:
            piece = array[position : position + count].astype(np.float32)
            if not np.isfinite(piece).all():
                where = int(np.argmin(np.isfinite(piece)))
                raise UserError(
                    f"{source.place}: {name} holds {piece[where]} at entry {start + where}: "
                    "this model is broken"
                )
    raise UserError(f"{sources[0].place}: a difference in {chunk.pieces[0].name} exceeds float32")


def _by_tensor(job: Job, reader: Reader):
    """Yields every tensor's squared norms of the task vectors."""
    update, finalize = job.rule.update, job.rule.finalize
    if job.nameless:
        update = partial(update_compiled, job.rule)
    # A collecting rule compiles its parts itself: as one program they would be as many as tasks.
    if job.nameless and job.rule.streaming:
        finalize = partial(finalize_compiled, job.rule)
    for name in job.plan.merged:
        theta_0, taus = read_task_vectors(job.pretrained, job.models, name, reader, job.nameless)
        (key,) = theta_0
        state = job.rule.init(theta_0)
        if job.state:
            found, treedef = jax.tree.flatten(state)
            stored = (job.state.tensors[f"{i}/{name}"] for i in range(len(found)))
            state = jax.tree.unflatten(treedef, [jnp.asarray(reader.whole(t)) for t in stored])
        squares = []
        for model, tau in zip(job.models, taus, strict=True):
            state = update(state, tau)
            squares.append(jnp.sum(jnp.square(tau[key])))
            job.advance(model.tensors[name].nbytes)
        merged = apply_task_vector(theta_0, finalize(state), job.scale)[key]
        job.output.write(name, np.asarray(merged.astype(job.plan.out_dtypes[name])))
        if job.next_state:
            for i, leaf in enumerate(jax.tree.leaves(state)):
                job.next_state.write(f"{i}/{name}", np.asarray(leaf))
        job.advance(job.pretrained.tensors[name].nbytes)
        yield squares


def read_task_vectors(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    name: str,
    reader: Reader,
    nameless: bool,
) -> tuple[dict[str, jax.Array], Iterator[dict[str, jax.Array]]]:
    """One tensor of theta_0 and, read when it is asked for, of every task vector.

    Each is a tree of one leaf: under its name, or under one name for all, so that what is compiled
    for one tensor serves every other of its shape.
    """
    key = "tensor" if nameless else name
    theta_0 = {key: _whole(pretrained, name, reader)}
    return theta_0, (task_vector({key: _whole(m, name, reader)}, theta_0) for m in models)


@partial(jax.jit, static_argnums=0)
def update_compiled(rule: MergeRule, state, tau):
    return rule.update(state, tau)


@partial(jax.jit, static_argnums=0)
def finalize_compiled(rule: MergeRule, state):
    return rule.finalize(state)


def _whole(source: TensorFiles, name: str, reader: Reader) -> jax.Array:
    tensor = jnp.asarray(reader.whole(source.tensors[name]), jnp.float32)
    if not bool(jnp.isfinite(tensor).all()):
        raise UserError(f"{source.place}: {name} is not finite: this model is broken")
    return tensor
