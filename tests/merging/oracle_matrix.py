"""The published formulas of rules on whole tensors, in plain float64 NumPy.

Task vectors are (t, ...) of one tensor; matrices are (t, m, n).
"""

import itertools

import numpy as np


def iso_c(taus: np.ndarray) -> np.ndarray:
    u, s, v = np.linalg.svd(taus.sum(0), full_matrices=False)
    return u @ np.diag(np.full(len(s), s.mean())) @ v


def opcm_projected(taus: np.ndarray, alpha: float) -> np.ndarray:
    """m_T before its norm is restored, with full bases as published."""
    merged = taus[0]
    for tau in taus[1:]:
        u, s, v = np.linalg.svd(merged, full_matrices=True)
        projected = u.T @ tau @ v.T
        np.fill_diagonal(projected, 0)
        r = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
        projected[:r, :r] = 0
        merged = merged + u @ projected @ v
    return merged


def opcm(taus: np.ndarray, alpha: float) -> np.ndarray:
    """As in the authors' code: rescaled after every task, and by lambda before the next."""
    merged, factor, norms = taus[0], 1.0, [np.linalg.norm(taus[0])]
    for tau in taus[1:]:
        u, s, v = np.linalg.svd(merged, full_matrices=True)
        projected = u.T @ tau @ v.T
        np.fill_diagonal(projected, 0)
        r = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
        projected[:r, :r] = 0
        merged = factor * merged + u @ projected @ v
        norms.append(np.linalg.norm(tau))
        factor = np.linalg.norm(merged) / np.mean(norms)
        merged = merged / factor
    return merged


def tsv_m(taus: np.ndarray) -> np.ndarray:
    """Computes the orthogonal factors by eigenvalues: U (U'U)^-1/2."""

    def orthogonal(x):
        values, vectors = np.linalg.eigh(x.T @ x)
        return x @ vectors @ np.diag(values**-0.5) @ vectors.T

    kept = min(taus.shape[1:]) // len(taus)
    us, ss, vs = [], [], []
    for tau in taus:
        u, s, v = np.linalg.svd(tau, full_matrices=False)
        us, ss, vs = [*us, u[:, :kept]], [*ss, s[:kept]], [*vs, v[:kept].T]
    u, v = orthogonal(np.concatenate(us, 1)), orthogonal(np.concatenate(vs, 1))
    return u @ np.diag(np.concatenate(ss)) @ v.T


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def model_stock(taus: np.ndarray) -> np.ndarray:
    c = np.mean([cosine(a, b) for a, b in itertools.combinations(taus, 2)])
    return len(taus) * c / (1 + (len(taus) - 1) * c) * taus.mean(0)


def slerp(taus: np.ndarray, t: float) -> np.ndarray:
    angle = np.arccos(cosine(*taus))
    return (np.sin((1 - t) * angle) * taus[0] + np.sin(t * angle) * taus[1]) / np.sin(angle)
