"""The best product of two matrices of a given rank."""

import numpy as np

OVERSAMPLED = 16
"""Directions that are followed besides those wanted."""
ITERATIONS = 6
"""In which they turn to the longest ones."""


def truncated_svd(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """B and A with the least Frobenius norm of `matrix` - B A, each with the root of the lengths.

    Exact for small matrices; for all others by subspace iteration from fixed random directions
    (Halko, Martinsson and Tropp, 2011, algorithm 4.4), which finds a product of the rank exactly,
    and else one whose norm of what is left is at most about 1 % above the least.

    Args:
      matrix: float64 (m, n).
      rank: where it exceeds m or n, the rest of B and A is zero.

    Returns:
      B, float64 (m, rank), and A, float64 (rank, n).
    """
    m, n = matrix.shape
    basis = np.eye(m)
    if rank + OVERSAMPLED < min(m, n):
        basis = _longest(matrix, rank + OVERSAMPLED)
    u, s, v = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    b, a = np.zeros((m, rank)), np.zeros((rank, n))
    count = min(rank, len(s))
    roots = np.sqrt(s[:count])
    b[:, :count] = basis @ (u[:, :count] * roots)
    a[:count] = roots[:, None] * v[:count]
    return b, a


def _longest(matrix: np.ndarray, count: int) -> np.ndarray:
    """An orthonormal basis, (m, count), of about the longest directions of the columns."""
    start = np.random.default_rng(0).normal(size=(matrix.shape[1], count))
    basis, _ = np.linalg.qr(matrix @ start)
    for _ in range(ITERATIONS):
        other, _ = np.linalg.qr(matrix.T @ basis)
        basis, _ = np.linalg.qr(matrix @ other)
    return basis
