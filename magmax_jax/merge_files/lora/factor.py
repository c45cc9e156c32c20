"""The best product of two matrices of a given rank."""

import numpy as np

OVERSAMPLED = 16
"""Extra directions beyond the rank (oversampling)."""
ITERATIONS = 6
"""Iterations that turn them towards the leading ones."""


def truncated_svd(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """B and A that minimise the Frobenius norm of `matrix` - B A; each gets sqrt(singular values).

    Exact for small matrices; otherwise by subspace iteration from fixed random directions (Halko,
    Martinsson and Tropp, 2011, algorithm 4.4), which is exact for a matrix of that rank, and else
    gives a residual norm at most about 1 % above the least.

    Args:
      matrix: float64 (m, n).
      rank: if it exceeds m or n, the rest of B and A is zero.

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
    """An orthonormal basis, (m, count), of approximately the leading column directions."""
    start = np.random.default_rng(0).normal(size=(matrix.shape[1], count))
    basis, _ = np.linalg.qr(matrix @ start)
    for _ in range(ITERATIONS):
        other, _ = np.linalg.qr(matrix.T @ basis)
        basis, _ = np.linalg.qr(matrix @ other)
    return basis
