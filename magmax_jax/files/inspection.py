"""What a checkpoint or a state holds, told in a table: `magmax inspect`."""

from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table

from magmax_jax.files.command import size
from magmax_jax.files.state import KEY, Story
from magmax_jax.storage.tensors import Reader, TensorFiles, open_files, open_tensors


def inspect(source: str) -> Group:
    """A hub id, a directory, a .safetensors file or a state, described for the terminal.

    Raises:
      UserError: it cannot be read.
    """
    path = Path(source)
    files = open_files(path.parent, [path]) if path.is_file() else open_tensors(source)
    if KEY in files.metadata:
        return _state(files, path)
    return Group(*_checkpoint(files))


def _checkpoint(files: TensorFiles) -> list:
    dtypes = Counter()
    for tensor in files.tensors.values():
        dtypes[str(tensor.dtype)] += tensor.size
    table = Table(title=str(files.directory), title_justify="left")
    for column in ("part", "tensors", "entries", "norm"):
        table.add_column(column, justify="left" if column == "part" else "right")
    with Reader() as reader:
        for part, names in _parts(files).items():
            entries = sum(files.tensors[name].size for name in names)
            norm = _norm(files, names, reader)
            table.add_row(part, f"{len(names):,}", f"{entries:,}", f"{norm:.5g}")
    kinds = ", ".join(f"{count:,} {dtype}" for dtype, count in dtypes.items())
    files_line = f"{len(files.tensors)} tensors in {len(files.files)} files, {size(files.nbytes)}"
    return [table, f"{files_line}: {kinds}"]


def _parts(files: TensorFiles) -> dict[str, list[str]]:
    """Tensors by the first two words of their names: text_model.encoder, ..."""
    parts: dict[str, list[str]] = {}
    for name in files.tensors:
        words = name.split(".")
        parts.setdefault(".".join(words[: max(1, min(2, len(words) - 1))]), []).append(name)
    return parts


def _norm(files: TensorFiles, names: list[str], reader: Reader) -> float:
    total = 0.0
    for name in names:
        flat = reader.whole(files.tensors[name]).reshape(-1)
        for start in range(0, len(flat), 1 << 20):
            piece = flat[start : start + (1 << 20)].astype(np.float64)
            total += float(piece @ piece)
    return total**0.5


def _state(files: TensorFiles, path: Path) -> Group:
    story = Story.from_metadata(files.metadata, path)
    table = Table(title=str(path), title_justify="left")
    table.add_column("task", justify="right")
    table.add_column("model")
    table.add_column("norm of tau", justify="right")
    shares = _shares(files)
    if shares is not None:
        table.add_column("entries supplied", justify="right")
    for i, task in enumerate(story.tasks, start=1):
        row = [str(i), task.source, f"{task.norm:.5g}"]
        if shares is not None:
            row.append(f"{shares[i]:.1%}" if i < 255 else "with 255" if i > 255 else "")
        table.add_row(*row)
    options = "".join(f", {key}={value}" for key, value in story.options.items())
    lines = [
        f"{story.rule}{options}, online state of {len(story.tasks)} tasks, {size(files.nbytes)}",
        f"theta_0: {story.pretrained} (sha256 {story.sha256 or 'not computed'})",
    ]
    return Group(table, *lines)


def _shares(files: TensorFiles) -> np.ndarray | None:
    """Share of entries by the task that supplies them, (256,), the 255th and all later ones as one.

    None where the state keeps no provenance.
    """
    sources = [t for t in files.tensors.values() if t.dtype == np.uint8]
    if not sources:
        return None
    counts = np.zeros(256, np.int64)
    with Reader() as reader:
        for tensor in sources:
            counts += np.bincount(reader.whole(tensor).reshape(-1), minlength=256)
    return counts / max(counts.sum(), 1)
