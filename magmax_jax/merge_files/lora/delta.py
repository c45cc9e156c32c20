"""One tensor with an adapter applied, computed in the pieces in which it is read."""

import math
from dataclasses import dataclass

import numpy as np

from magmax_jax.io.safetensors.computed import Computed, Read
from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.merge_files.lora.names import Module

BLOCK = 1 << 18
"""Entries computed at once, in float64."""


@dataclass(frozen=True)
class Product:
    """theta_0's tensor + scale B A: a `Fill`.

    Products are summed in float64 and rounded once, so the bits hardly depend on where a piece
    starts.

    Attributes:
      base: theta_0's tensor, None for zeros.
      module: its A, (r, in, ...), and B, (out, r, 1, ...); an embedding's are (r, rows) and
        (width, r).
      transposed: the tensor is (in, out), as an embedding's always is.
      scale: alpha / r, or alpha / sqrt(r).
    """

    base: Tensor | None
    module: Module
    transposed: bool
    scale: float

    @property
    def a(self) -> Tensor:
        assert self.module.a is not None
        return self.module.a

    @property
    def b(self) -> Tensor:
        assert self.module.b is not None
        return self.module.b

    def __call__(self, out: np.ndarray, start: int, read: Read) -> None:
        if self.base is None:
            out[:] = 0
        else:
            _read_as(out, self.base, start, read)
        factor = self.b if self.transposed else self.a
        right = np.empty(factor.size, factor.dtype)
        read(right, factor, 0)
        right = right.reshape(factor.shape[0], -1).astype(np.float64)  # B (out, r) or A (r, in)
        right = right.T if self.transposed else right
        columns = right.shape[1]
        rows, end = max(1, BLOCK // columns), start + len(out)
        for first in range(start // columns, -(-end // columns), rows):
            last = min(first + rows, -(-end // columns))
            low, high = max(start, first * columns), min(end, last * columns)
            with np.errstate(over="ignore", invalid="ignore"):  # non-finite results are refused
                delta = (self._left(first, last, read) @ right).reshape(-1) * self.scale
                piece = out[low - start : high - start]
                piece[:] = piece + delta[low - first * columns : high - first * columns]

    def _left(self, first: int, last: int, read: Read) -> np.ndarray:
        """Rows of the left factor: rows of B, or columns of A. float64 (rows, r)."""
        rank = self.a.shape[0]
        if not self.transposed:
            left = np.empty((last - first) * rank, self.b.dtype)
            read(left, self.b, first * rank)
            return left.reshape(-1, rank).astype(np.float64)
        width = math.prod(self.a.shape[1:])
        left = np.empty((rank, last - first), self.a.dtype)
        for row, i in zip(left, range(rank), strict=True):
            read(row, self.a, i * width + first)
        return left.T.astype(np.float64)


@dataclass(frozen=True)
class Shifted:
    """theta_0's bias + scale times B's: a `Fill`."""

    base: Tensor
    bias: Tensor
    scale: float

    def __call__(self, out: np.ndarray, start: int, read: Read) -> None:
        added = np.empty(len(out), self.bias.dtype)
        read(added, self.bias, start)
        _read_as(out, self.base, start, read)
        with np.errstate(over="ignore", invalid="ignore"):
            out[:] = out + self.scale * added.astype(np.float64)


def zero(out: np.ndarray, start: int, read: Read) -> None:
    """A `Fill` for tensors that no adapter changes."""
    out[:] = 0


def is_change(tensor: Tensor) -> bool:
    """Whether a tensor is what adapters add to a model, not a model's own."""
    fill = tensor.fill if isinstance(tensor, Computed) else None
    return fill is zero or (isinstance(fill, Product) and fill.base is None)


def product(
    base: Tensor | None, shape: tuple[int, ...], module: Module, transposed: bool, scale: float
) -> Computed:
    """The tensor with the adapter applied, in float32 or in theta_0's float64."""
    fill = Product(base, module, transposed, scale)
    return Computed(fill.a.path, _dtype(base), shape, fill)


def shifted(base: Tensor, bias: Tensor, scale: float) -> Computed:
    """The bias with the adapter applied."""
    return Computed(bias.path, _dtype(base), base.shape, Shifted(base, bias, scale))


def _dtype(base: Tensor | None) -> np.dtype:
    """Wider than theta_0's half precision, in which small changes would round away."""
    return np.promote_types(np.float32, base.dtype if base else np.float32)


def _read_as(out: np.ndarray, tensor: Tensor, start: int, read: Read) -> None:
    """Reads entries of any dtype into an array of another dtype."""
    if tensor.dtype == out.dtype:
        read(out, tensor, start)
        return
    found = np.empty(len(out), tensor.dtype)
    read(found, tensor, start)
    out[:] = found
