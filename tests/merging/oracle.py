"""The published formulas in plain NumPy, all task vectors at once: what rules are held against."""

import numpy as np


def max_magnitude(taus: np.ndarray) -> np.ndarray:
    """(t, n) -> (n,): per entry the largest magnitude, the last of equals."""
    last_of_largest = len(taus) - 1 - np.argmax(np.abs(taus)[::-1], axis=0)
    return np.take_along_axis(taus, last_of_largest[None], axis=0)[0]


def average(taus: np.ndarray) -> np.ndarray:
    """(t, n) -> (n,): the float32 sum in the order of the tasks, times the float32 1 / t."""
    total = np.zeros_like(taus[0])
    for tau in taus:
        total = total + tau
    return total * (np.float32(1) / np.float32(len(taus)))


def random_mix(taus: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(t, n) and uniform draws (t, n) -> (n,): task i replaces where draw * (i + 1) < 1."""
    mixed = np.zeros_like(taus[0])
    for i, (tau, u) in enumerate(zip(taus, draws, strict=True)):
        mixed = np.where(u * np.float32(i + 1) < 1, tau, mixed)
    return mixed
