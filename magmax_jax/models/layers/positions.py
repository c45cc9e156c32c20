"""Interpolates position embeddings to another image size."""

import numpy as np


def interpolate_positions(positions: np.ndarray, grid: int, class_tokens: int = 1) -> np.ndarray:
    """Resamples the patches' position embedding to `grid` x `grid`, except class tokens'.

    Bicubic with a = -0.75, half-pixel centres, clamped borders and no antialiasing, which is what
    transformers computes for `interpolate_pos_encoding=True` (torch's `mode="bicubic"`).

    Args:
      positions: float (class_tokens + old_grid^2, d), class tokens first.
      grid: patches along one side.
      class_tokens: number of tokens besides patches.

    Returns:
      float32 (class_tokens + grid^2, d).
    """
    first, patches = np.split(positions, [class_tokens])
    old = round(len(patches) ** 0.5)
    if old == grid:
        return positions
    weights = _bicubic_matrix(grid, old)
    patches = patches.astype(np.float64).reshape(old, old, -1)
    patches = np.einsum("yi,xj,ijd->yxd", weights, weights, patches, optimize=True)
    return np.concatenate([first, patches.reshape(grid * grid, -1)]).astype(np.float32)


def _bicubic_matrix(new: int, old: int, a: float = -0.75) -> np.ndarray:
    """Row i holds the weights of the old samples in new sample i (Keys, 1981): (new, old)."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        x = np.abs(centre - (first + tap))
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        index = np.clip(first + tap, 0, old - 1)
        np.add.at(matrix, (np.arange(new), index), np.where(x <= 1, near, far))
    return matrix
