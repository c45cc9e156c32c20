"""What `magmax evaluate` prints for known rows."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from magmax_jax.api.model_evaluation import Found
from magmax_jax.cli.evaluate_tables import tables
from magmax_jax.data import Source
from magmax_jax.evaluation.rows import Row
from magmax_jax.scenarios import Head, Scenario, Task

GROUPS = {"all": 0.5, "one": 0.25, "two": 0.75}


def shown(classes: int, covered: list[list[int]], bonus: float) -> str:
    """The tables of a scenario of two tasks; aware accuracies are higher by `bonus`."""
    names = tuple(f"class {i}" for i in range(classes))
    source = Source(np.zeros((8, 2, 2, 3), np.uint8), np.zeros(8, np.int32), names)
    images = np.arange(4)
    tasks = [
        Task(name, images, images, np.array(own))
        for name, own in zip(("one", "two"), covered, strict=True)
    ]
    scenario = Scenario("made up", source, source, tuple(tasks), (Head(names, ("{}",)),))
    row = Row(0, "source", None, "agnostic", "all", 0.0, 4, top5=1.0)
    rows = [
        replace(row, protocol=protocol, group=group, accuracy=accuracy + more)
        for protocol, more in (("agnostic", 0.0), ("aware", bonus))
        for group, accuracy in GROUPS.items()
    ]
    console = Console(file=io.StringIO(), width=100)
    for table in tables([Found("source", rows, counts=None)], scenario, per_class=False):
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("classes", "covered", "times"),
    [
        (4, [[0, 1], [2, 3]], 0),
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]], 1),
        (8, [[0, 1, 2, 3, 4, 5], [6, 7]], 2),
    ],
    ids=["neither", "among all", "among the task's own, too"],
)
def test_top5_is_shown_where_there_are_more_than_five_classes(classes, covered, times):
    text = shown(classes, covered, bonus=0.125)
    assert text.count("label among the top 5") == times
    assert "among the task's own classes" in text and "25.0% / 37.5%" in text


def test_equal_accuracies_are_shown_once():
    text = shown(6, [[*range(6)]] * 2, bonus=0.0)
    assert text.count("50.0%") == 2  # over all images, and as the mean over tasks
    assert text.count("25.0%") == 1 and " / " not in text
    assert "among the task's own classes it is the same" in " ".join(text.split())
    assert text.count("label among the top 5") == 1
