"""mergekit's methods in float64 NumPy, one tensor at a time, written from their formulas."""

from collections.abc import Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


def keep_largest(delta: np.ndarray, density: float) -> np.ndarray:
    """The max(1, floor(density n)) largest magnitudes."""
    if density >= 1:
        return delta
    count = max(1, int(density * delta.size)) if density > 0 else 0
    order = np.argsort(-np.abs(delta).ravel(), kind="stable")
    return _only(delta, order[:count])


def keep_middle(delta: np.ndarray, density: float, gamma: float) -> np.ndarray:
    """floor(density n) entries behind the floor(gamma n) largest, as far as these leave room."""
    if density >= 1:
        return delta
    n = delta.size
    count = int(density * n)
    first = max(0, n - count - int(gamma * n))
    order = np.argsort(np.abs(delta).ravel(), kind="stable")
    return _only(delta, order[first : first + count])


def _only(delta: np.ndarray, kept: np.ndarray) -> np.ndarray:
    found = np.zeros(delta.size)
    found[kept] = delta.ravel()[kept]
    return found.reshape(delta.shape)


def rescaled(thinned: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """With the L1 norm that the tensor had before."""
    before, after = np.abs(delta).sum(), np.abs(thinned).sum()
    return thinned if min(before, after) < 1e-7 else thinned * (before / after)


def combined(
    base: np.ndarray,
    deltas: Arrays,
    weights: Sequence[float],
    consensus: bool = False,
    normalize: bool = False,
    factor: float = 1.0,
) -> np.ndarray:
    votes = [w * delta for w, delta in zip(weights, deltas, strict=True)]
    agree = [np.ones(base.shape, bool) for _ in votes]
    if consensus:
        elected = np.where(sum(votes) >= 0, 1, -1)
        agree = [np.sign(vote) == elected for vote in votes]
    total = sum(np.where(yes, vote, 0) for yes, vote in zip(agree, votes, strict=True))
    divisor = sum(np.where(yes, w, 0.0) for yes, w in zip(agree, weights, strict=True))
    divisor = np.where(divisor == 0, 1, divisor)
    return base + factor * (total / divisor if normalize else total)


def linear(models: Arrays, weights: Sequence[float], normalize: bool = True) -> np.ndarray:
    total = sum(w * model for w, model in zip(weights, models, strict=True))
    return total / sum(weights) if normalize else total


def arc(a: np.ndarray, b: np.ndarray, t: float, parallel: float) -> np.ndarray:
    """Of two vectors; a straight line where |cosine| exceeds `parallel`."""
    norms = [np.linalg.norm(x) or 1.0 for x in (a, b)]
    cosine = np.clip((a / norms[0]).ravel() @ (b / norms[1]).ravel(), -1, 1)
    if abs(cosine) > parallel:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def arc_of_rows(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    if a.ndim == 1:
        return arc(a, b, t, 1.0)
    return np.stack([arc(x, y, t, 1.0) for x, y in zip(a, b, strict=True)])


def model_stock(base: np.ndarray, models: Arrays, rows: bool = False) -> np.ndarray:
    if rows and base.ndim > 1:
        each = zip(base, *models, strict=True)
        return np.stack([model_stock(first, rest) for first, *rest in each])
    deltas, n = [(model - base).ravel() for model in models], len(models)
    norms = [np.linalg.norm(delta) for delta in deltas]
    cosines = [
        deltas[i] @ deltas[j] / max(norms[i] * norms[j], 1e-6)
        for i in range(n)
        for j in range(i + 1, n)
    ]
    c = np.mean(cosines)
    t = n * c / (1 + (n - 1) * c)
    return t * np.mean(models, axis=0) + (1 - t) * base


def multislerp(vectors: Arrays, weights: Sequence[float], normalize: bool = True) -> np.ndarray:
    w = np.array(weights) / (sum(weights) if normalize else 1)
    norms = [np.linalg.norm(vector) for vector in vectors]
    mean = sum(x * v / norm for x, v, norm in zip(w, vectors, norms, strict=True))
    return mean / np.linalg.norm(mean) * (w @ norms)


def sce(base: np.ndarray, models: Arrays, topk: float = 1.0) -> np.ndarray:
    deltas = np.stack([model - base for model in models])
    if topk < 1:
        variance = deltas.var(axis=0)
        count = int(np.count_nonzero(variance) * topk)
        order = np.argsort(-variance.ravel(), kind="stable")[:count]
        deltas = np.stack([_only(delta, order) for delta in deltas])
    energy = np.array([np.mean(delta**2) for delta in deltas])
    equal = energy.sum() < 1e-6
    weights = np.full(len(deltas), 1 / len(deltas)) if equal else energy / energy.sum()
    elected = np.where(deltas.sum(axis=0) >= 0, 1, -1)
    shares = (np.sign(deltas) == elected) * weights.reshape(-1, *[1] * base.ndim)
    return base + (shares * deltas).sum(axis=0) / np.maximum(shares.sum(axis=0), 1e-6)
