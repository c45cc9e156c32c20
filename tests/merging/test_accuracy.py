"""The float32 error of matrix rules, against their formulas in float64."""

import numpy as np
import pytest

from magmax_jax.merging import rules
from magmax_jax.merging.numerics import decomposition
from tests.merging import oracle_matrix as oracle
from tests.merging.cases import folded

MAKERS = {"iso_c": rules.iso_c, "tsv_m": rules.tsv_m, "opcm": rules.opcm}


def task_vectors(shape: tuple[int, int], condition: float, seed: int) -> np.ndarray:
    """Four task vectors with log-uniformly decreasing singular values, starting at 1."""
    u, _, v = np.linalg.svd(
        np.random.default_rng(seed).normal(size=(4, *shape)), full_matrices=False
    )
    return np.float32(u * np.geomspace(1, 1 / condition, min(shape)) @ v)


@pytest.mark.parametrize("shape", [(24, 96), (96, 24)])
@pytest.mark.parametrize("name", MAKERS)
def test_long_matrices_are_merged_at_least_as_accurately_as_with_float32_lapack(
    name, shape, monkeypatch
):
    def error(averaged: str) -> float:
        """Largest error relative to the largest entry; each name triggers a new compilation."""
        found = []
        for seed in range(2):
            taus = task_vectors(shape, 30, seed)
            options = {"alpha": 0.5} if name == "opcm" else {}
            wanted = getattr(oracle, name)(taus.astype(float), **options)
            merged = folded(MAKERS[name](averaged=(averaged,), **options), taus)
            found.append(np.abs(merged - wanted).max() / np.abs(wanted).max())
        return float(np.median(found))

    ours = error("none is called so")
    monkeypatch.setattr(decomposition, "LONG", float("inf"))
    lapack = error("nor so")
    assert ours <= lapack < 1e-5
