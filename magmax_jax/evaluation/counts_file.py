"""Counts of an evaluation as a safetensors file in `counts/`."""

from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.evaluation.counts import Counts, as_pairs
from magmax_jax.io.atomic import new_file
from magmax_jax.io.safetensors.writer import FileWriter

NEEDED = {"agnostic", "aware", "total"}
"""Counts by task, domain and class that every file holds; early ones lack those of the top 5."""


def write_counts(path: Path, counts: Counts) -> None:
    """Writes one evaluation's counts atomically, in the smallest unsigned integers that fit."""
    arrays = {name: _narrow(np.asarray(array)) for name, array in counts._asdict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as partial_path:
        writer = FileWriter(partial_path, {name: (a.dtype, a.shape) for name, a in arrays.items()})
        try:
            for name, array in arrays.items():
                writer.write(name, array)
            writer.close({})
        except BaseException:
            writer.abandon()
            raise


def read_counts(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `Counts` by name, int64; those for the top 5 may be missing.

    Earlier versions wrote the confusions as a matrix (k, k), `confusion`: it becomes pairs.

    Raises:
      UserError: the file is damaged.
    """
    # Imports the hub's client, which readers of runs without counts do not need.
    from magmax_jax.io.safetensors.reader import open_tensors

    files = open_tensors(path)
    shapes = {name: tensor.shape for name, tensor in files.tensors.items()}
    matrix, pairs = shapes.pop("confusion", None), shapes.pop("confusions", None)
    shape = shapes.get("total", ())
    is_matrix = pairs is None and matrix == shape[-1:] * 2
    is_pairs = matrix is None and pairs is not None and len(pairs) == 2 and pairs[1] == 3
    if not (
        all(np.issubdtype(tensor.dtype, np.integer) for tensor in files.tensors.values())
        and shapes.keys() >= NEEDED
        and set(shapes.values()) == {shape}
        and len(shape) == 3
        and min(shape) > 0
        and (is_matrix or is_pairs)
    ):
        raise _damaged(path)
    found = {name: files.load(name).astype(np.int64) for name in shapes}
    if is_matrix:
        found["confusions"] = as_pairs(files.load("confusion"))
    else:
        found["confusions"] = files.load("confusions").astype(np.int64)
    if not _fit(found):
        raise _damaged(path)
    return found


def _fit(found: dict[str, np.ndarray]) -> bool:
    """Whether the numbers can be those of one evaluation."""
    confusions, total = found["confusions"], found["total"]
    groups = (array for name, array in found.items() if name != "confusions")
    if not all(np.all((array >= 0) & (array <= total)) for array in groups):
        return False
    label, prediction, samples = confusions.T
    classes = total.shape[-1]
    pairs = confusions[:, :2]
    if not (np.all((pairs >= 0) & (pairs < classes)) and np.all(samples > 0)):
        return False
    by_class = np.zeros(classes, np.int64)
    np.add.at(by_class, label, samples)
    ascending = np.all(np.diff(label * classes + prediction) > 0)
    return bool(ascending) and np.array_equal(by_class, total.sum((0, 1)))


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path} is damaged: it does not hold the counts of an evaluation; remove it to "
        "make the report without its confusions"
    )


def _narrow(array: np.ndarray) -> np.ndarray:
    return array.astype(np.min_scalar_type(array.max(initial=0)))
