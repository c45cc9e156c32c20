"""Concurrent items: results in order, bounded memory, and no new work after an error."""

import threading

import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merge_files import side_by_side as module
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from magmax_jax.merge_files.side_by_side import one_thread_each, side_by_side
from magmax_jax.merge_files.spill import Spill
from magmax_jax.merge_files.state import MergeHistory
from tests.merge_files.conftest import merge, sources


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 2)


def test_results_are_in_the_order_of_the_items(two_cores):
    later = threading.Event()

    def function(i: int) -> int:
        if i == 0:
            assert later.wait(30)  # so the second is computed concurrently with the first
        later.set()
        return i * i

    assert list(side_by_side(function, range(9), lambda i: 1)) == [i * i for i in range(9)]


def test_memory_stays_within_the_bound_plus_the_largest_item(two_cores, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 10)
    begun: list[int] = []
    sizes = [50, 4, 4, 4, 50, 4, 30, 1]
    results = side_by_side(lambda i: begun.append(i) or i, range(len(sizes)), sizes.__getitem__)
    for used, _ in enumerate(results):
        held = [sizes[i] for i in begun if i >= used]
        assert sum(held) - max(held) <= 10
    assert sorted(begun) == list(range(len(sizes)))


def test_nothing_is_started_after_an_error(two_cores, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    begun: list[int] = []

    def function(i: int) -> None:
        begun.append(i)
        if i == 1:
            raise UserError("the second is broken")

    with pytest.raises(UserError, match="the second is broken"):
        list(side_by_side(function, range(100), lambda i: 1))
    assert max(begun) < 8


def test_nothing_is_started_after_the_results_are_closed(two_cores, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    begun: list[int] = []
    results = side_by_side(begun.append, range(100), lambda i: 1)
    next(results)
    results.close()
    assert max(begun) < 8


def test_blas_has_one_thread_within_and_as_many_as_before_after():
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with one_thread_each():
        assert set(threads()) == {1}
    assert threads() == before


def test_spilled_arrays_are_read_back_and_leave_no_file(tmp_path):
    arrays = [np.arange(6, dtype=np.int32).reshape(2, 3), np.float32(0.1).reshape(()), np.ones(0)]
    with Spill(tmp_path) as spill:
        for array in arrays:
            spill.put(array.T)
        spill.rewind()
        for array in arrays:
            found = spill.take()
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array.T)
        assert not list(tmp_path.iterdir())


def test_an_error_in_a_thread_is_one_sentence_and_leaves_no_files(
    models, tmp_path, capsys, monkeypatch
):
    rule, calls = mm.rules.opcm(), []

    def measure(state, norms):
        calls.append(state)
        if len(calls) == 2:
            raise UserError("the second tensor cannot be measured")
        return rule.settle.measure(state, norms)

    broken = rule._replace(settle=rule.settle._replace(measure=measure), of_leaf=None)
    monkeypatch.setattr(MergeHistory, "build_rule", lambda *_, **options: broken)
    there = sorted(tmp_path.iterdir())
    assert merge(*sources(models), "--rule", "opcm", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "the second tensor cannot be measured" in error and "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize("rule", ["iso_c", "tsv_m", "opcm"])
def test_a_dry_run_reports_the_memory_of_concurrent_tensors(models, rule, monkeypatch):
    base, *rest = map(str, models)
    plan = make_plan(Job(pretrained=base, finetuned=tuple(rest), rule=rule))
    sizes = [plan.held([name]) for name in plan.merged]
    assert plan.memory == sum(sizes)  # all of them together are below the bound
    monkeypatch.setattr("magmax_jax.merge_files.plan.AT_ONCE", 100)
    assert plan.memory == max(sizes) + 100
