"""Forgetting metrics against hand-computed numbers, and properties of any run."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magmax_jax.evaluation import metrics
from magmax_jax.evaluation.history import History, histories, task_names
from magmax_jax.evaluation.metrics import Both, measure
from magmax_jax.evaluation.rows import Row

TASKS = ("one", "two", "three")
COUNTS = (10, 20, 30)
ZERO_SHOT = (0.2, 0.3, 0.4)
LEARNED = ((0.9, 0.1, 0.2), (0.7, 0.5, 0.3), (0.4, 0.6, 0.8))
"""Accuracy on each task after 1, 2, 3 tasks: task one is forgotten, task two improves."""
ALONE = ((0.9, 0.1, 0.2), (0.3, 0.7, 0.3), (0.3, 0.2, 0.8))
"""The same tasks, each learned from theta_0."""


def evaluation(after, model, accuracies, protocol="agnostic", scale=None) -> list[Row]:
    overall = float(np.average(accuracies, weights=COUNTS))
    named = zip(("all", *TASKS), (overall, *accuracies), (sum(COUNTS), *COUNTS), strict=True)
    return [Row(after, model, scale, protocol, group, a, n) for group, a, n in named]


def run(learned=LEARNED) -> list[Row]:
    found = []
    for protocol in ("agnostic", "aware"):
        found += evaluation(0, "zero_shot", ZERO_SHOT, protocol)
    for after, accuracies in enumerate(learned, start=1):
        found += evaluation(after, "finetuned", accuracies)
        found += evaluation(after, "max_magnitude", [a / 2 for a in accuracies], scale=0.5)
        found += evaluation(after, "finetuned", [1.0] * 3, "aware")
    return found


def history(learned=LEARNED, label="finetuned") -> History:
    return histories(run(learned), "agnostic")[label]


def test_histories_have_a_row_for_each_number_of_tasks_and_start_zero_shot():
    found = histories(run(), "agnostic")
    assert list(found) == ["zero_shot", "finetuned", "max_magnitude@0.5"]
    finetuned, merged = found["finetuned"], found["max_magnitude@0.5"]
    assert finetuned.tasks == TASKS and finetuned.counts.tolist() == list(COUNTS)
    np.testing.assert_array_equal(finetuned.accuracy, (ZERO_SHOT, *LEARNED))
    np.testing.assert_array_equal(merged.accuracy[0], ZERO_SHOT)
    np.testing.assert_array_equal(merged.accuracy[1:], np.asarray(LEARNED) / 2)
    np.testing.assert_allclose(finetuned.overall, finetuned.accuracy @ COUNTS / 60)
    assert np.isnan(found["zero_shot"].accuracy[1:]).all()
    aware = histories(run(), "aware")
    assert (
        list(aware) == ["zero_shot", "finetuned"] and (aware["finetuned"].accuracy[1:] == 1).all()
    )


def test_neither_domains_nor_validation_images_nor_chosen_scales_are_in_a_history():
    first, others = run()[0], []
    for changes in (
        {"group": "domain:sketch"},
        {"group": "one", "split": "validation"},
        {"group": "one", "chosen": "validation"},
        {"group": "nowhere", "split": "validation", "after_task": 9},
    ):
        others.append(replace(first, accuracy=0.99, count=999, **changes))
    rows = [*others, *run(), *others]
    assert task_names(rows) == list(TASKS)
    again = histories(rows, "agnostic")["finetuned"]
    np.testing.assert_array_equal(again.accuracy, history().accuracy)
    assert again.counts.tolist() == list(COUNTS)


WORKED = {
    # a_(3,i) = .4 .6 .8: (4 + 12 + 24) / 60, and the mean
    "last_accuracy": (40 / 60, 0.6),
    # A_1 = .9; A_2 = (7 + 10) / 30 or .6; A_3 as above
    "incremental_accuracy": ((0.9 + 17 / 30 + 40 / 60) / 3, (0.9 + 0.6 + 0.6) / 3),
    # f_1 = .9 - .4, f_2 = .5 - .6
    "forgetting": ((10 * 0.5 - 20 * 0.1) / 30, (0.5 - 0.1) / 2),
    # tasks 1 and 2 were best when they were learned
    "backward_transfer": ((-10 * 0.5 + 20 * 0.1) / 30, (-0.5 + 0.1) / 2),
    # a_(1,2) - a_(0,2) = .1 - .3, a_(2,3) - a_(0,3) = .3 - .4
    "forward_transfer": ((-20 * 0.2 - 30 * 0.1) / 50, (-0.2 - 0.1) / 2),
    # .9 - .9, .7 - .5, .8 - .8
    "intransigence": (20 * 0.2 / 60, 0.2 / 3),
}


@pytest.mark.parametrize("name", WORKED)
def test_measures_match_hand_computed_values(name):
    found = measure(history(), history(ALONE))[name]
    assert found == pytest.approx(WORKED[name]) and all(type(value) is float for value in found)


def test_average_accuracy_covers_the_tasks_seen():
    assert metrics.average_accuracy(history(), 2, weighted=False) == pytest.approx(0.6)
    assert metrics.average_accuracy(history(), 2, weighted=True) == pytest.approx(17 / 30)
    assert metrics.average_accuracy(history(), 4, weighted=True) is None
    assert metrics.average_accuracy(history(label="zero_shot"), 2, weighted=True) is None


def test_forgetting_takes_the_best_since_a_task_was_learned_but_not_the_final_model():
    better = ((0.5, 0.9, 0), (0.8, 0.3, 0), (0.6, 0.3, 1))
    # task 1 was best after two tasks; task 2 at 0.9 before it was learned does not count
    assert metrics.forgetting_by_task(history(better)) == pytest.approx([0.2, 0.0])
    assert metrics.forgetting_by_task(history().first(2)) == pytest.approx([0.2])


def test_a_truncated_history_equals_one_that_ended_there():
    two = history().first(2)
    assert two.tasks == TASKS[:2] and two.accuracy.shape == (3, 2)
    assert two.overall == pytest.approx([(2 + 6) / 30, (9 + 2) / 30, (7 + 10) / 30])
    assert measure(two)["incremental_accuracy"].task_mean == pytest.approx((0.9 + 0.6) / 2)


@pytest.mark.parametrize(
    ("learned", "label", "last"),
    [
        (LEARNED[:2], "finetuned", 26 / 60),
        (LEARNED[:1], "finetuned", 17 / 60),
        (LEARNED, "zero_shot", 20 / 60),
        ((), "zero_shot", 20 / 60),
    ],
    ids=["unfinished", "joint", "zero-shot", "not started"],
)
def test_undefined_measures_are_none(learned, label, last):
    found = measure(history(learned, label), history(ALONE))
    assert found["last_accuracy"].weighted == pytest.approx(last)
    assert set(list(found.values())[1:]) == {Both(None, None)}


def test_one_task_has_an_accuracy_but_nothing_to_forget():
    found = measure(history().first(1), history(ALONE).first(1))
    assert found["incremental_accuracy"] == pytest.approx((0.9, 0.9))
    assert found["intransigence"] == pytest.approx((0.0, 0.0))
    assert (
        found["forgetting"]
        == found["backward_transfer"]
        == found["forward_transfer"]
        == (None, None)
    )


def test_a_gap_makes_a_measure_undefined():
    rows = [row for row in run() if (row.after_task, row.group) != (1, "one")]
    found = measure(histories(rows, "agnostic")["finetuned"])
    assert found["forgetting"] == found["incremental_accuracy"] == (None, None)
    assert found["last_accuracy"] == pytest.approx(WORKED["last_accuracy"])


def test_intransigence_needs_a_run_of_the_same_tasks():
    alone = history(ALONE)
    for other in (alone._replace(tasks=("a", "b", "c")), alone._replace(counts=alone.counts + 1)):
        assert metrics.intransigence(history(), other, weighted=True) is None


def test_nothing_measured_gives_no_history():
    assert histories([], "agnostic") == {} and task_names([]) == []


@st.composite
def any_history(draw, equal=False) -> History:
    tasks = draw(st.integers(2, 6))
    share = st.integers(0, 64).map(lambda hits: hits / 64)  # as counts give
    accuracy = draw(hnp.arrays(np.float64, (1 + tasks, tasks), elements=share))
    sizes = st.just(7) if equal else st.integers(1, 1000)
    counts = draw(hnp.arrays(np.int64, tasks, elements=sizes))
    names = tuple(f"task {i}" for i in range(1, 1 + tasks))
    return History("finetuned", names, accuracy, accuracy @ (counts / counts.sum()), counts)


def defined(found: dict[str, Both]) -> np.ndarray:
    """(6, 2): every measure in both weightings."""
    return np.asarray(list(found.values()), dtype=np.float64)


@settings(max_examples=50, deadline=None)
@given(any_history())
def test_measures_stay_in_their_ranges_and_forgetting_is_at_least_minus_backward_transfer(history):
    found = measure(history, history)
    assert (defined(found)[:2] >= 0).all() and (np.abs(defined(found)) <= 1 + 1e-12).all()
    forgotten, transfer = np.asarray(found["forgetting"]), np.asarray(found["backward_transfer"])
    assert (forgotten >= -transfer - 1e-12).all()
    assert found["intransigence"] == (0, 0)


@settings(max_examples=50, deadline=None)
@given(any_history(equal=True))
def test_weightings_agree_for_tasks_of_equal_size(history):
    weighted, mean = defined(measure(history, history)).T
    np.testing.assert_allclose(weighted, mean, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(any_history())
def test_constant_accuracies_have_no_forgetting_and_no_transfer(history):
    still = np.broadcast_to(history.accuracy[0], history.accuracy.shape)
    found = measure(history._replace(accuracy=still))
    for change in (found["forgetting"], found["backward_transfer"], found["forward_transfer"]):
        assert change == pytest.approx((0, 0), abs=1e-12)


def test_measuring_does_not_import_jax():
    """Reports and `watch` start instantly, also on machines without accelerators."""
    program = "import sys, magmax_jax.evaluation.metrics; print('jax' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.strip() == "False", shown.stderr


def test_measures_that_need_unevaluated_tasks_are_undefined():
    rows = [row for row in run() if row.after_task != 2]
    found = histories(rows, "agnostic")["finetuned"]
    assert found.learned == 3 and np.isnan(found.accuracy[2]).all()
    np.testing.assert_array_equal(found.accuracy[[0, 1, 3]], (ZERO_SHOT, LEARNED[0], LEARNED[2]))
    measured = measure(found, histories(run(ALONE), "agnostic")["finetuned"])
    assert measured.pop("last_accuracy") == measure(history())["last_accuracy"]
    assert set(measured.values()) == {Both(None, None)}
    assert metrics.forgetting_by_task(found) is None
    assert metrics.average_accuracy(found, 2, True) is None
