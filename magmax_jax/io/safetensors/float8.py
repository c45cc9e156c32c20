"""Reading 8-bit floats with scales as the weights that they mean: theta = codes * scale.

The scale multiplies under all of its names: transformers 5.24's `Fp8Dequantize` and DeepSeek-V3's
`weight_dequant` multiply by `weight_scale_inv`, compressed-tensors' `dequantize` by `weight_scale`,
ComfyUI's scaled FP8 by `scale_weight`.
"""

from collections.abc import Callable

import numpy as np

from magmax_jax.io.safetensors.header import Scaled, Tensor


def read_scaled(
    read: Callable[[np.ndarray, Tensor, int], None],
    out: np.ndarray,
    tensor: Tensor,
    stored: Scaled,
    start: int,
) -> None:
    """Fills `out` with the weights from entry `start` on: float32 products, rounded once.

    Args:
      read: fills a flat array with a tensor's entries as the file holds them.
      out: float32, one-dimensional.
      tensor: as it is read.
      stored: what the file holds in its place.
    """
    codes = np.empty(out.size, stored.dtype)
    read(codes, tensor._replace(dtype=stored.dtype, scaled=None), start)
    out[:] = codes.astype(np.float32)
    if stored.scale is None or not out.size:
        return
    flat = np.empty(stored.scale.size, stored.scale.dtype)
    read(flat, stored.scale, 0)
    scale = flat.astype(np.float32)
    if scale.size == 1:
        out *= scale
        return
    rows, columns = tensor.shape[-2:]
    first, last = start // columns, -(-(start + out.size) // columns)
    matrix, row = np.divmod(np.arange(first, last), rows)  # matrices may be stacked: experts
    down, along = stored.block
    grid = scale.reshape(-1, *stored.scale.shape[-2:])[matrix, row // down]
    factors = np.repeat(grid, along, axis=1)[:, :columns].reshape(-1)
    out *= factors[start - first * columns :][: out.size]
