"""Task vectors shared by the tests of several analyses, also as plain NumPy arrays."""

import numpy as np


def task_vector(seed: int, dtype: type = np.float32) -> dict:
    """A stack of matrices, a matrix, a bias and a counter; a third of the entries are zero."""
    random = np.random.default_rng(seed)

    def leaf(*shape):
        return (random.normal(size=shape) * (random.random(shape) < 2 / 3)).astype(dtype)

    return {
        "blocks": {"kernel": leaf(3, 16, 24), "bias": leaf(3, 24)},
        "head": leaf(24, 8),
        "steps": np.int32(seed),
    }


NAMES = ["blocks.bias", "blocks.kernel", "head"]


def flat(tau: dict) -> np.ndarray:
    """All floating-point entries: (n,)."""
    leaves = tau["blocks"]["bias"], tau["blocks"]["kernel"], tau["head"]
    return np.concatenate([np.asarray(leaf, np.float32).ravel() for leaf in leaves])


def part(name: str) -> str:
    return "head" if name == "head" else "blocks"
