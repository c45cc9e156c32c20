"""Tables and pictures from rows whose answers are known."""

import io

import pytest
from PIL import Image
from rich.console import Console

from magmax_jax import report
from magmax_jax.results import Row

TASKS = ["one", "two", "three"]
LEARNED = {
    # after 1, 2, 3 tasks; task two gets better, task one is forgotten
    "one": [0.9, 0.7, 0.4],
    "two": [0.1, 0.5, 0.6],
    "three": [0.0, 0.2, 0.8],
}


def rows() -> list[Row]:
    found = []
    for protocol in ("agnostic", "aware"):
        for group in ("all", *TASKS):
            found.append(Row(0, "zero_shot", None, protocol, group, 0.25, 30))
    for after in (1, 2, 3):
        for name, scale in (("finetuned", None), ("max_magnitude", 0.5)):
            for protocol, bonus in (("agnostic", 0.0), ("aware", 0.1)):
                each = {task: LEARNED[task][after - 1] + bonus for task in TASKS}
                each = {"all": sum(each.values()) / 3} | each
                found += [Row(after, name, scale, protocol, g, a, 30) for g, a in each.items()]
    return found


def test_forgetting_is_the_mean_drop_from_the_best_since_learned():
    history = report.accuracies(rows(), "agnostic")["finetuned"]
    # one: 0.9 -> 0.4; two: best before the end 0.5 -> 0.6; three is the last and does not count
    assert report.forgetting(history, TASKS) == pytest.approx((0.5 - 0.1) / 2)


def test_forgetting_counts_only_what_was_learned():
    """Zero-shot luck with a task that comes later is no memory of it."""
    history = {"one": {1: 0.5, 2: 0.5, 3: 0.5}, "two": {1: 0.9, 2: 0.3, 3: 0.3}, "three": {3: 1.0}}
    assert report.forgetting(history, TASKS) == 0.0


def test_forgetting_needs_two_tasks_and_a_learner():
    histories = report.accuracies(rows(), "agnostic")
    assert report.forgetting(histories["zero_shot"], TASKS) is None
    assert report.forgetting({"one": {1: 0.5}}, ["one"]) is None


def test_the_table_shows_final_accuracies_of_every_model():
    assert report.task_names(rows()) == TASKS
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table(rows(), "a title"))
    text = console.file.getvalue()
    assert "a title" in text
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert "25.0%" in lines["zero-shot"] and "points" not in lines["zero-shot"]
    assert "60.0%" in lines["max_magnitude@0.5"] and "70.0%" in lines["max_magnitude@0.5"]
    assert "20.0 points" in lines["max_magnitude@0.5"]


def test_the_picture_is_a_whole_png(tmp_path):
    path = tmp_path / "report" / "accuracy.png"
    report.plot(rows(), "a title", path)
    with Image.open(path) as image:
        image.load()
        assert image.width > 900 and image.height > 500
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (0, 114, 178) in colours and (213, 94, 0) in colours  # a line each
