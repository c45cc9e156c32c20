"""Shows the content of a checkpoint or state as a table: `magmax inspect`."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Group
from rich.table import Table

from magmax_jax.errors import counted, harmless
from magmax_jax.io.safetensors.header import PACKED, name_of
from magmax_jax.io.safetensors.reader import Reader, Tensor, TensorFiles, open_files, open_tensors
from magmax_jax.merge_files.lora.describe import describe
from magmax_jax.merge_files.plan import size
from magmax_jax.merge_files.quantised import described
from magmax_jax.merge_files.state import KEY, MergeHistory
from magmax_jax.registry import RULES

PIECE = 1 << 20
"""Entries read at once."""


def inspect(source: str, open_source: Callable[[str], TensorFiles] = open_tensors) -> Group:
    """Describes a hub id, a directory, a .safetensors file or a state for the terminal.

    Raises:
      UserError: it cannot be read.
    """
    path = Path(source)
    files = open_files(path.parent, [path]) if path.is_file() else open_source(source)
    if KEY in files.metadata:
        return _state(files, path)
    return Group(*_checkpoint(files))


def _checkpoint(files: TensorFiles) -> list:
    dtypes: Counter[str] = Counter()
    for tensor in files.tensors.values():
        dtypes[name_of(tensor.dtype)] += tensor.size * PACKED.get(tensor.dtype, 1)
    table = Table(title=str(files.directory), title_justify="left")
    for column in ("part", "tensors", "entries", "norm"):
        table.add_column(column, justify="left" if column == "part" else "right")
    with Reader() as reader:
        for part, names in _parts(files).items():
            entries = sum(files.tensors[name].size for name in names)
            norm = _norm(files, names, reader)
            table.add_row(harmless(part), f"{len(names):,}", f"{entries:,}", f"{norm:.5g}")
    kinds = ", ".join(f"{count:,} {dtype}" for dtype, count in dtypes.items())
    tensors, in_files = counted(len(files.tensors), "tensor"), counted(len(files.files), "file")
    shown = f"{tensors} in {in_files}, {size(files.nbytes)}: {kinds}"
    return [table, shown, *described(files), *describe(files)]


def _parts(files: TensorFiles) -> dict[str, list[str]]:
    """Tensors by the first two words of their names: text_model.encoder, ..."""
    parts: dict[str, list[str]] = {}
    for name in files.tensors:
        words = name.split(".")
        parts.setdefault(".".join(words[: max(1, min(2, len(words) - 1))]), []).append(name)
    return parts


def _norm(files: TensorFiles, names: list[str], reader: Reader) -> float:
    tensors = [t for t in map(files.tensors.__getitem__, names) if t.dtype not in PACKED]
    pieces = (_as_reals(piece) for tensor in tensors for piece in _pieces(tensor, reader))
    return sum(float(piece @ piece) for piece in (p.astype(np.float64) for p in pieces)) ** 0.5


def _as_reals(piece: np.ndarray) -> np.ndarray:
    """Complex numbers as real and imaginary parts, which have the same norm."""
    return piece.view(np.float32) if piece.dtype.kind == "c" else piece


def _pieces(tensor: Tensor, reader: Reader) -> Iterator[np.ndarray]:
    """The tensor's entries, flat, a bounded number at a time."""
    for start in range(0, tensor.size, PIECE):
        piece = np.empty(min(PIECE, tensor.size - start), tensor.dtype)
        reader.into(piece, tensor, start)
        yield piece


def _state(files: TensorFiles, path: Path) -> Group:
    history = MergeHistory.from_metadata(files.metadata, path)
    table = Table(title=str(path), title_justify="left")
    table.add_column("task", justify="right")
    table.add_column("model")
    table.add_column("norm of tau", justify="right")
    provenance = _provenance(history, files)
    if provenance:
        table.add_column("entries supplied", justify="right")
    for i, task in enumerate(history.tasks, start=1):
        row = [str(i), harmless(task.source), f"{task.norm:.5g}"]
        if provenance:
            row.append(f"{provenance.supplied[i]:.1%}" if i <= 255 else "with 255")
        table.add_row(*row)
    options = "".join(f", {key}={value}" for key, value in history.options.items())
    tasks = f"state of {counted(len(history.tasks), 'task')}, {size(files.nbytes)}"
    lines = [
        f"{history.rule}{options}, {tasks}",
        f"theta_0: {history.pretrained} (sha256 {history.sha256 or 'not computed'})",
    ]
    if provenance:
        lines.append(
            f"sign conflicts: {provenance.conflicts:.1%} of entries were increased by one task and "
            f"decreased by another; {provenance.untouched:.1%} were never changed"
        )
    return Group(table, *lines)


class Provenance(NamedTuple):
    """Summary of a `Sourced` state, as shares of all its entries."""

    supplied: np.ndarray
    """Supplied by each task, (256,); the 255th and all later ones count as one."""
    conflicts: float
    """Increased by one task, decreased by another."""
    untouched: float
    """Changed by no task."""


def _provenance(history: MergeHistory, files: TensorFiles) -> Provenance | None:
    """None if the state keeps no provenance, or the rule is unknown here."""
    # Only a state that has counters for sources can have provenance; others need no JAX.
    uint8 = any(tensor.dtype == np.uint8 for tensor in files.tensors.values())
    if history.rule not in RULES or not uint8:
        return None
    import jax

    from magmax_jax.merging import rules

    theta = jax.ShapeDtypeStruct((), np.float32)
    state = jax.eval_shape(history.build_rule(kept=True).init, theta)
    if not isinstance(state, rules.Sourced):
        return None
    # A file numbers the leaves in the order of the state's fields.
    of_source, of_signs = (str(state._fields.index(field)) for field in ("source", "signs"))
    supplied, signs = np.zeros(256, np.int64), np.zeros(4, np.int64)
    with Reader() as reader:
        for name, tensor in files.tensors.items():
            field, _, of = name.partition("/")
            if field != of_source:
                continue
            seen = _pieces(files.tensors[f"{of_signs}/{of}"], reader)
            for source, signs_seen in zip(_pieces(tensor, reader), seen, strict=True):
                # Where nothing ever changed, the last task's zero won the tie: not supplied by it.
                supplied += np.bincount(source[signs_seen > 0], minlength=256)
                signs += np.bincount(signs_seen, minlength=4)
    total = max(int(signs.sum()), 1)
    return Provenance(supplied / total, signs[3] / total, signs[0] / total)
