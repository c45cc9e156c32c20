"""The benchmark in memory at its smallest: what it tells, not how fast anything is."""

import dataclasses
import json
from importlib.util import find_spec

import jax
import pytest

from benchmarks import whole_merge
from benchmarks.cells import Bounds, Cell, growth_rows, measure, refused, row
from benchmarks.merge import main
from benchmarks.shapes import SIZES
from benchmarks.workloads import image_tower


@pytest.fixture(scope="module")
def theta_0():
    return image_tower(SIZES["tiny"].model, "float32")[1]


def test_it_tells_copies_folds_thresholds_and_whole_merges(tmp_path):
    output = tmp_path / "memory.md"
    flags = ["--sizes", "tiny", "--tasks", "2", "--rules", "max_magnitude"]
    more = ["--numbers", "5000", "--repeats", "2", "--output", str(output)]
    assert main(["memory", *flags, *more]) == 0
    text = output.read_text()
    for name in ("numpy.copyto, one thread", "jitted jnp.copy", "fold, max_magnitude", "5,000"):
        assert f"| {name}" in text
    assert text.count(", the reference") == 1
    (found,) = (line for line in text.splitlines() if line.startswith("| 5,000"))
    assert ("equal" if find_spec("torch") else "absent") in found
    first, *rows = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"cores", "device"} <= first["environment"].keys()
    folds = [row for row in rows if "moved" in row and "name" in row]
    assert {len(timing["seconds"]) for timing in folds} == {2}
    (cell,) = (row for row in rows if "outcome" in row)
    nbytes = 4 * 115_712
    assert (cell["tasks"], cell["outcome"], cell["moved"]) == (2, "ok", (4 * 2 + 4) * nbytes)
    assert len(cell["folds"]) == len(cell["ends"]) == 2 and min(cell["folds"]) > 0
    assert cell["state"] == nbytes < cell["peak"]


@pytest.mark.parametrize(
    ("name", "tasks", "moved", "held", "state"),
    [
        ("task_arithmetic", 5, 4 * 5 + 4, 2 + 2, 1),
        ("fisher", 2, 2 + 2 * (2 * 2 + 2 + 1) + 2 + 2, 1 + 2 + 2 * 2, 2),
        ("ties", 3, 4 * 3 + 2, 1 + 3 + 2, 3),
    ],
)
def test_what_must_move_and_be_held_is_counted_in_models(name, tasks, moved, held, state):
    """All merge, too, and tell every call's seconds and the state's bytes."""
    ready = whole_merge.prepare({"size": "tiny", "rule": name, "tasks": tasks, "seed": 0})
    model = ready.facts["parameters"]
    assert model == 4 * 115_712
    assert ready.facts["moved"] == pytest.approx(moved * model, abs=8 * tasks)  # counters
    assert ready.facts["held"] == pytest.approx(held * model, abs=8 * tasks)
    ready.call()
    ready.call()
    told = ready.last()
    assert len(told["folds"]) == len(told["ends"]) == 2
    assert told["state"] == pytest.approx(state * model, abs=8)


def test_models_differ_from_theta_0_and_from_each_other(theta_0):
    models = [jax.jit(whole_merge._model, static_argnums=0)("ties", theta_0, t) for t in (0, 1)]
    for a, b, c in zip(*map(jax.tree.leaves, (theta_0, *models)), strict=True):
        assert (a != b).mean() > 0.9 and (b != c).mean() > 0.9
        assert abs(a - b).max() <= 1.01 * whole_merge.CHANGE


def cell(tasks: int, seconds: float = 1.0, **more) -> Cell:
    numbers = {"moved": 100 * tasks, "held": 100, "peak": 1000, "state": 10} | more
    return Cell("tiny", "ties", tasks, "ok", [seconds], [0.0], **numbers)


def test_what_does_not_fit_or_would_take_too_long_is_refused():
    bounds = Bounds(repeats=1, at_most=10, memory=5e9)
    assert refused(Cell("tiny", "ties", 2, held=5_100_000_000), [], bounds) == (
        "does not fit: 5.1 GB of 5.0"
    )
    done = [cell(2, seconds=1.0), cell(8, seconds=2.0)]  # 2 s / 8 < 1 s / 2: the safer one counts
    assert refused(cell(20), done, bounds) is None
    assert refused(cell(22), done, bounds) == "not run: 11 s by extrapolation, more than 10"
    other = dataclasses.replace(cell(22), rule="average")
    assert refused(other, done, bounds) is None
    assert row(dataclasses.replace(other, outcome="not run"), 1.0)[2] == "not run"


def test_more_of_what_took_too_long_is_not_tried():
    bounds = Bounds(repeats=1, at_most=10, memory=5e9)
    ended = dataclasses.replace(cell(8), outcome="failed: > 90 s")
    assert refused(cell(20), [ended], bounds) == "not run: less of it has taken too long already"
    assert refused(cell(2), [ended], bounds) is None


def test_runs_are_counted_and_one_that_compiles_is_told():
    assert row(cell(2), 1.0)[3] == "1"
    assert row(dataclasses.replace(cell(2), compiling=True), 1.0)[3] == "1, compilation included"


def test_what_a_smaller_tower_took_is_known_of_a_larger_one():
    """A cell of the same rule that took long: nothing larger is begun."""
    long = dataclasses.replace(cell(2), moved=1, folds=[50.0], ends=[0.0])
    (told,) = measure([Cell("tiny", "ties", 2)], Bounds(1, 10, 1e12), seed=0, known=[long])
    assert told.outcome.startswith("not run: ") and not told.folds


def test_one_that_fails_is_told():
    (alone,) = measure([Cell("tiny", "model_stock", 1)], Bounds(1, 60, 1e12), seed=0)
    assert alone.outcome.startswith("failed: ") and "needs two models" in alone.outcome
    assert len(row(alone, 1.0)) == len(row(cell(2), 1.0))


def test_growth_is_what_one_more_task_takes():
    linear = [cell(t, seconds=0.5 + 0.25 * t) for t in (2, 8, 20)]
    assert growth_rows(linear) == [["ties", "2 8 20", "0.25 0.25", "1.00", "1.00"]]
    square = [cell(t, seconds=t * t, peak=100 * t) for t in (1, 2, 3)]
    assert growth_rows(square)[0][2:] == ["3 5", "1.67", "3.00"]
    assert growth_rows(linear[:1]) == []
