"""Dtypes of a recipe: inputs rounded before they are merged, and the dtype of the result."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence

import numpy as np

from magmax_jax.io.safetensors.computed import Computed, Read
from magmax_jax.io.safetensors.reader import Tensor, TensorFiles
from magmax_jax.merge_files.compare import MERGED

Opened = TensorFiles | None


def opening(
    open_source: Callable[[str], TensorFiles], dtype: str | None
) -> Callable[[str], TensorFiles]:
    """`open_source`, with floating-point tensors rounded to a narrower dtype, as mergekit does.

    Args:
      dtype: None for as stored.
    """
    if dtype is None:
        return open_source
    to = np.dtype(dtype)

    def opened(source: str) -> TensorFiles:
        files = open_source(source)
        tensors = {name: _rounded(tensor, to) for name, tensor in files.tensors.items()}
        return dataclasses.replace(files, tensors=tensors)

    return opened


def promoted(
    names: Collection[str], pretrained: TensorFiles, models: Sequence[TensorFiles]
) -> dict[str, np.dtype]:
    """The dtype to which all inputs of a tensor promote, by name."""
    found = {}
    for name in names:
        dtypes = [f.tensors[name].dtype for f in (pretrained, *models) if name in f.tensors]
        found[name] = functools.reduce(_promote, dtypes)
    return found


def common(dtypes: Collection[np.dtype], tensors: Collection[Tensor]) -> str | None:
    """The only dtype of a result, if that is another than some of theta_0's tensors have."""
    found = set(dtypes)
    if len(found) != 1 or not {tensor.dtype for tensor in tensors} - found:
        return None
    return found.pop().name


def _promote(a: np.dtype, b: np.dtype) -> np.dtype:
    if a.itemsize == b.itemsize:
        return a if a == b else np.dtype(np.float32)  # float16 and bfloat16
    return max(a, b, key=lambda dtype: dtype.itemsize)


def _rounded(tensor: Tensor, to: np.dtype) -> Tensor:
    if tensor.dtype not in MERGED or _promote(tensor.dtype, to) == to:
        return tensor
    return Computed(tensor.path, to, tensor.shape, functools.partial(_fill, tensor))


def _fill(tensor: Tensor, out: np.ndarray, start: int, read: Read) -> None:
    stored = np.empty(out.shape, tensor.dtype)
    read(stored, tensor, start)
    with np.errstate(over="ignore"):  # the merge refuses what is not finite
        out[...] = stored
