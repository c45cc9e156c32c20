"""The benchmark of merging in memory at its smallest: what it reports, not how fast it is."""

import json
from importlib.util import find_spec

import jax
import pytest

from benchmarks.contenders import Served
from benchmarks.merge import main
from benchmarks.merge_memory import Memory, measure, refused, rows, whole_merge
from benchmarks.ours import merging
from benchmarks.tables import Output
from benchmarks.workloads import SIZES, image_tower
from tests.benchmarks.test_train import cells


@pytest.mark.slow
def test_it_reports_copies_folds_thresholds_and_whole_merges(tmp_path):
    output = tmp_path / "memory.md"
    flags = ["--sizes", "tiny", "--tasks", "2", "--rules", "max_magnitude"]
    more = ["--numbers", "5000", "--repeats", "2", "--output", str(output)]
    assert main(["memory", *flags, *more]) == 0
    text = output.read_text()
    for name in ("numpy.copyto, one thread", "jitted jnp.copy", "fold, max_magnitude"):
        assert f"| {name}" in text
    assert text.count(", the reference") == 1
    (torch,) = (row for row in cells(text) if row[0] == "torch")
    assert torch[1] == "5,000" and (torch[2].startswith("absent: ") != bool(find_spec("torch")))
    first, *records = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"cores", "device"} <= first["environment"].keys()
    (folds,) = (row for row in records if "timings" in row)
    assert {len(timing["seconds"]) for timing in folds["timings"]} == {2}
    calls = [row for row in records if "folds" in row]
    assert len(calls) == 2 and all(0 < call["folds"] < call["seconds"] for call in calls)
    (cell,) = (row for row in records if "outcome" in row and row.get("rule") == "max_magnitude")
    nbytes, facts = 4 * 115_712, cell["facts"]
    assert (cell["tasks"], cell["outcome"]) == (2, "ok")
    assert facts["moved"] == (4 * 2 + 4) * nbytes and facts["state"] == nbytes < facts["peak"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tasks", "moved", "held", "state"),
    [("task_arithmetic", 5, 4 * 5 + 4, 2 + 2, 1), ("ties", 3, 4 * 3 + 2, 1 + 3 + 2, 3)],
)
def test_traffic_and_memory_are_counted_in_models(name, tasks, moved, held, state):
    """All of them also merge, and report every call's seconds and the state's bytes."""
    ready = merging.whole({"size": "tiny", "rule": name, "tasks": tasks})
    model = ready.facts["parameters"]
    assert model == 4 * 115_712
    assert ready.facts["moved"] == pytest.approx(moved * model, abs=8 * tasks)  # counters
    assert ready.facts["held"] == pytest.approx(held * model, abs=8 * tasks)
    call = ready.call()
    assert 0 < call["folds"] < call["seconds"]
    assert ready.last()["state"] == pytest.approx(state * model, abs=8)


@pytest.mark.slow
def test_models_differ_from_theta_0_and_from_each_other():
    _, theta_0 = image_tower(SIZES["tiny"], "float32")
    models = [jax.jit(merging.noisy)(theta_0, t) for t in (0, 1)]
    for a, b, c in zip(*map(jax.tree.leaves, (theta_0, *models)), strict=True):
        assert (a != b).mean() > 0.9 and (b != c).mean() > 0.9
        assert abs(a - b).max() <= 1.01 * merging.CHANGE


def cell(tasks: int, *seconds: float, rule: str = "ties", **facts: object) -> Served:
    one = whole_merge("tiny", rule, tasks)
    one.calls += [{"seconds": taken, "folds": taken / 2} for taken in seconds]
    numbers = {"moved": 100 * tasks, "held": 100, "peak": 1000, "state": 10, "compiling": False}
    one.facts |= numbers | facts
    return one


def test_cells_too_large_or_too_slow_are_refused():
    bounds = {"at_most": 10, "memory": 5e9}
    large = cell(2, held=5_100_000_000)
    assert refused(large, **bounds, done=[]) == "does not fit: 5.1 GB of 5.0"
    done = [cell(2, 1.0), cell(8, 2.0)]  # 2 s / 8 < 1 s / 2: the safer estimate counts
    assert refused(cell(20), **bounds, done=done) is None
    said = "not run: 11 s by extrapolation, more than 10"
    assert refused(cell(22), **bounds, done=done) == said
    assert refused(cell(22, rule="average"), **bounds, done=done) is None
    ended = cell(8)
    ended.failure = "> 90 s"
    said = "not run: a smaller merge already took too long"
    assert refused(cell(20), **bounds, done=[ended]) == said
    assert refused(cell(2), **bounds, done=[ended]) is None


@pytest.mark.slow
def test_a_refused_or_failing_contender_is_reported():
    output = Output(None, {})
    long, next_one = cell(1, 50.0, moved=1), whole_merge("tiny", "ties", 2)
    measure(next_one, Memory(at_most=10), 1e12, [long], output)
    assert next_one.failure.startswith("not run: ") and not next_one.calls
    alone = whole_merge("tiny", "model_stock", 1)
    measure(alone, Memory(), 1e12, [], output)
    assert alone.failure.startswith("failed: ") and "needs two models" in alone.failure


def test_rows_report_the_cost_of_one_more_task():
    field = [cell(t, 0.5 + 0.25 * t) for t in (2, 8, 20)]
    field += [cell(2, 3.0, rule="average", compiling=True)]
    head, *found = cells(rows(field, copy=2000.0))
    more, runs = head.index("one more task"), head.index("runs")
    assert [row[more] for row in found] == ["", "0.25", "0.25", ""]
    assert [row[runs] for row in found] == ["1", "1", "1", "1, compiling"]
    assert found[0][head.index("share of a copy")] == "10 %"
    assert found[0][head.index("of which folds")] == "0.5"
