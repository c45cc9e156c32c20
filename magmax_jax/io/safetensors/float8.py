"""Reads 8-bit floats with scales as the weights they represent: theta = codes * scale.

The scale multiplies, whatever its name: transformers 5.24's `Fp8Dequantize` and DeepSeek-V3's
`weight_dequant` multiply by `weight_scale_inv`, compressed-tensors' `dequantize` by `weight_scale`,
ComfyUI's scaled FP8 by `scale_weight`.
"""

from dataclasses import dataclass

import numpy as np

from magmax_jax.io.safetensors.computed import Computed, Read
from magmax_jax.io.safetensors.header import Tensor


@dataclass(frozen=True)
class ScaledCodes:
    """Fills arrays with codes times scales: float32 products, rounded once.

    Attributes:
      codes: 8-bit floats; with several blocks, matrices (..., rows, columns).
      scale: one entry, or one per block of the last two axes; None if codes are the weights.
      block: rows and columns of a block; blocks at the ends may be partial.
    """

    codes: Tensor
    scale: Tensor | None
    block: tuple[int, int]

    def __call__(self, out: np.ndarray, start: int, read: Read) -> None:
        codes = np.empty(out.size, self.codes.dtype)
        read(codes, self.codes, start)
        out[:] = codes.astype(np.float32)
        if self.scale is None or not out.size:
            return
        flat = np.empty(self.scale.size, self.scale.dtype)
        read(flat, self.scale, 0)
        scale = flat.astype(np.float32)
        if scale.size > 1:
            scale = self._of_each(scale, start, out.size)
        with np.errstate(over="ignore", invalid="ignore"):  # the merge refuses such weights
            out *= scale

    def _of_each(self, scale: np.ndarray, start: int, count: int) -> np.ndarray:
        """The scale for each of `count` entries from `start` on."""
        assert self.scale is not None
        rows, columns = self.codes.shape[-2:]
        first, last = start // columns, -(-(start + count) // columns)
        matrix, row = np.divmod(np.arange(first, last), rows)  # matrices may be stacked: experts
        down, along = self.block
        grid = scale.reshape(-1, *self.scale.shape[-2:])[matrix, row // down]
        factors = np.repeat(grid, along, axis=1)[:, :columns].reshape(-1)
        return factors[start - first * columns :][:count]


def computed(codes: Tensor, scale: Tensor | None, block: tuple[int, int]) -> Computed:
    """The weights as a float32 tensor of the codes' shape."""
    fill = ScaledCodes(codes, scale, block)
    return Computed(codes.path, np.dtype(np.float32), codes.shape, fill)


def scaled_codes(tensor: Tensor) -> ScaledCodes | None:
    """What a tensor is computed from, if that is 8-bit floats."""
    fill = tensor.fill if isinstance(tensor, Computed) else None
    return fill if isinstance(fill, ScaledCodes) else None
