"""The published formulas in plain NumPy, on all task vectors at once: the reference for rules.

Task vectors are (t, n) float32 throughout, the merged one is (n,). Sums run in the tasks' order.
"""

import numpy as np


def added(taus: np.ndarray) -> np.ndarray:
    total = np.zeros_like(taus[0])
    for tau in taus:
        total = total + tau
    return total


def max_magnitude(taus: np.ndarray) -> np.ndarray:
    """Largest magnitude per entry; ties go to the last task."""
    return np.take_along_axis(taus, last_largest(taus)[None], axis=0)[0]


def last_largest(taus: np.ndarray) -> np.ndarray:
    """Task (from 0) of the largest magnitude per entry; ties go to the last."""
    return len(taus) - 1 - np.argmax(np.abs(taus)[::-1], axis=0)


def min_magnitude(taus: np.ndarray) -> np.ndarray:
    last_of_smallest = len(taus) - 1 - np.argmin(np.abs(taus)[::-1], axis=0)
    return np.take_along_axis(taus, last_of_smallest[None], axis=0)[0]


def average(taus: np.ndarray) -> np.ndarray:
    """The float32 sum, times the float32 1 / t."""
    return added(taus) * (np.float32(1) / np.float32(len(taus)))


def negmerge(taus: np.ndarray) -> np.ndarray:
    """As in the published code: the mean where the signs sum to +t or -t."""
    unanimous = np.abs(np.sign(taus).sum(axis=0)) == len(taus)
    return np.where(unanimous, average(taus), np.float32(0))


def weighted_average(taus: np.ndarray, weights: list[float]) -> np.ndarray:
    return np.average(taus.astype(np.float64), axis=0, weights=weights[: len(taus)])


def ema(taus: np.ndarray, decay: float) -> np.ndarray:
    """All tasks with their final weights: the first has decay^(t-1), the others are discounted."""
    steps = np.arange(len(taus))[::-1]
    weights = decay**steps * np.where(np.arange(len(taus)) == 0, 1, 1 - decay)
    return weights @ taus.astype(np.float64)


def max_increment(taus: np.ndarray) -> np.ndarray:
    """The largest step from each task to the next (the first from zero); ties go to the last."""
    return max_magnitude(np.diff(taus, axis=0, prepend=np.zeros_like(taus[:1])))


def ema_magmax(taus: np.ndarray, decay: float) -> np.ndarray:
    merged = taus[0].astype(np.float64)
    for tau in taus[1:]:
        faded = decay * merged + (1 - decay) * tau
        merged = np.where(np.abs(tau) >= np.abs(merged), tau, faded)
    return merged


def fisher(taus: np.ndarray, information: np.ndarray, floor: float) -> np.ndarray:
    weights = np.maximum(information, floor).astype(np.float64)
    return (weights * taus).sum(0) / weights.sum(0)


def random_mix(taus: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """With uniform draws (t, n): task i, from 0, replaces where draw * (i + 1) < 1."""
    mixed = np.zeros_like(taus[0])
    for i, (tau, u) in enumerate(zip(taus, draws, strict=True)):
        mixed = np.where(u * np.float32(i + 1) < 1, tau, mixed)
    return mixed


def dare(taus: np.ndarray, draws: np.ndarray, drop: float) -> np.ndarray:
    return (np.where(draws >= drop, taus, 0).astype(np.float64) / (1 - drop)).sum(0)


def breadcrumbs(taus: np.ndarray, beta: float, gamma: float) -> np.ndarray:
    """By sorting; magnitudes are distinct."""
    n = taus.shape[1]
    ranks = np.argsort(np.argsort(np.abs(taus), axis=1), axis=1)
    kept = (ranks >= int(beta * n)) & (ranks < n - int(gamma * n))
    return added(np.where(kept, taus, np.float32(0)))


def largest(taus: np.ndarray, number: int) -> np.ndarray:
    """Every task's `number` largest entries, including ties with the last of them."""
    if number == 0:
        return np.zeros_like(taus)
    last = -np.sort(-np.abs(taus), axis=1)[:, number - 1, None]
    return np.where(np.abs(taus) >= last, taus, np.float32(0))


def ties(
    taus: np.ndarray, density: float, elect: str = "mass", aggregate: str = "mean"
) -> np.ndarray:
    """As published with MagMax: threshold over all n entries, itself kept; majority for zero."""
    n = taus.shape[1]
    kept = largest(taus, min(int(n * density) + 1, n))
    majority = np.sign(elected(kept, elect).sum(dtype=np.float64)).astype(np.float32)
    return elect_and_merge(kept, majority, elect, aggregate)


def elected(taus: np.ndarray, elect: str) -> np.ndarray:
    return np.sign(added(taus if elect == "mass" else np.sign(taus)))


def elect_and_merge(
    taus: np.ndarray, majority: float, elect: str = "mass", aggregate: str = "mean"
) -> np.ndarray:
    signs = elected(taus, elect)
    signs[signs == 0] = majority
    agreeing = np.where(np.where(signs > 0, taus > 0, taus < 0), taus, np.float32(0))
    if aggregate == "max":
        return np.abs(agreeing).max(0) * signs
    if aggregate == "sum":
        return added(agreeing)
    return added(agreeing) / np.maximum((agreeing != 0).sum(0), 1).astype(np.float32)


def della(taus: np.ndarray, draws: np.ndarray, density: float, epsilon: float) -> np.ndarray:
    """For one row of entries; magnitudes are distinct."""
    n = taus.shape[1]
    ranks = np.argsort(np.argsort(np.abs(taus), axis=1), axis=1)
    kept = density - epsilon + 2 * epsilon * ranks / (n - 1)
    thinned = np.where(draws < kept, taus / kept, 0).astype(np.float32)
    return elect_and_merge(thinned, 1)


def emr(taus: np.ndarray) -> np.ndarray:
    signs = np.where(added(taus) > 0, 1, -1).astype(np.float32)
    return signs * np.where(taus * signs > 0, np.abs(taus), 0).max(0)


def emr_restored(taus: np.ndarray, task: int) -> np.ndarray:
    """The task vector restored from the unified one by its mask and factor."""
    unified = emr(taus)
    masked = np.where(taus[task] * unified > 0, unified, 0)
    return masked * (np.abs(taus[task]).sum(dtype=float) / np.abs(masked).sum(dtype=float))


def consensus(taus: np.ndarray, votes: int, tall_lambda: float) -> np.ndarray:
    total = added(taus)
    used = np.abs(taus) > np.float32(tall_lambda) * np.abs(total - taus)
    return np.where(used.sum(0) >= votes, total, np.float32(0))
