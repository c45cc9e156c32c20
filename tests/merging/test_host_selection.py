"""The k-th smallest magnitude by sampling and collecting matches sorting."""

import numpy as np
import pytest

from magmax_jax.merging import kth_magnitudes_counted
from magmax_jax.merging.numerics import host_selection
from magmax_jax.merging.numerics.host_selection import between, kth_smallest

N = 50_000


def spreads() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = np.abs(random.standard_normal(N)).astype(np.float32)
    return {
        "normal": normal,
        "equal": np.full(N, 2, np.float32),
        "few values": np.round(normal * 4),
        "mostly zero": np.where(random.random(N) < 0.9, 0, normal).astype(np.float32),
        "sorted": np.sort(normal),
        "subnormal": normal * np.float32(1e-39),
    }


@pytest.mark.parametrize("name", spreads())
def test_it_matches_sorting(name):
    x = spreads()[name]
    ordered = np.sort(x)
    for k in (1, 2, 5000, 40_001, N - 1, N):
        assert kth_smallest(x, k) == ordered[k - 1]
    assert kth_smallest(x, 0) == 0 and kth_smallest(x, N + 1) == np.inf


@pytest.mark.parametrize("side", [-1, 1])
def test_a_misleading_sample_costs_a_pass_but_no_accuracy(monkeypatch, side):
    x = spreads()["normal"]
    wrong = (0, 5) if side < 0 else (0x7F000000, 0x7F000001)
    monkeypatch.setattr(host_selection, "_expected", lambda bits, k: wrong)
    assert kth_smallest(x, 40_001) == np.sort(x)[40_000]


@pytest.mark.parametrize("misled", [False, True])
def test_task_vectors_are_collected_from_in_few_passes(misled):
    taus = [np.abs(np.random.default_rng(t).standard_normal(N).astype(np.float32)) for t in (1, 2)]
    passes = []

    def count(pivots):
        passes.append("count")
        reached = [x >= np.asarray(own).view(np.float32)[:, None] for x, own in zip(taus, pivots)]  # noqa: B905
        return np.sum(reached, axis=-1)

    def collect(low, high):
        passes.append("collect")
        found = [between(x.view(np.int32), *ends) for x, *ends in zip(taus, low, high, strict=True)]
        below, inside = zip(*found, strict=True)
        return below, inside

    samples = [x[::8] * (3 if misled else 1) for x in taus]
    found = kth_magnitudes_counted(count, N, 40_001, samples, collect)
    np.testing.assert_array_equal(found, [np.sort(x)[40_000] for x in taus])
    assert passes == (["collect"] * 2 if misled else ["collect"])
