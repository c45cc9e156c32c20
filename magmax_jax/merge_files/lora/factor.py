"""The best product of two matrices of a given rank."""

import numpy as np
import scipy.linalg


def truncated_svd(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """B and A with the least Frobenius norm of `matrix` - B A, each with the root of the lengths.

    By the eigenvectors of the smaller Gram matrix in float64, of which only `rank` are computed:
    directions shorter than 1e-8 of the longest are lost, far below float32's rounding.

    Args:
      matrix: float64 (m, n).
      rank: where it exceeds m or n, the rest of B and A is zero.

    Returns:
      B, float64 (m, rank), and A, float64 (rank, n).
    """
    m, n = matrix.shape
    b, a = np.zeros((m, rank)), np.zeros((rank, n))
    size, count = min(m, n), min(rank, m, n)
    if not count:
        return b, a
    gram = matrix @ matrix.T if m <= n else matrix.T @ matrix
    squares, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - count, size - 1])
    roots = np.sqrt(np.sqrt(np.maximum(squares, 0)))
    inverse = np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)
    if m <= n:
        b[:, :count] = vectors * roots
        a[:count] = inverse[:, None] * (vectors.T @ matrix)
    else:
        b[:, :count] = (matrix @ vectors) * inverse
        a[:count] = roots[:, None] * vectors.T
    return b, a
