"""Tables and pictures from rows with known results."""

import io

import pytest
from PIL import Image
from rich.console import Console

from magmax_jax import report
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.evaluation.scales import Scales, choose

TASKS = ["one", "two", "three"]
LEARNED = {
    # after 1, 2, 3 tasks; task two improves, task one is forgotten
    "one": [0.9, 0.7, 0.4],
    "two": [0.1, 0.5, 0.6],
    "three": [0.0, 0.2, 0.8],
}


def rows(aware: float = 0.1) -> list[Row]:
    """Rows of three tasks; aware accuracies are higher by `aware`."""
    found = []
    for protocol in ("agnostic", "aware"):
        for group in ("all", *TASKS):
            found.append(Row(0, "zero_shot", None, protocol, group, 0.25, 30))
    for after in (1, 2, 3):
        for name, scale in (("finetuned", None), ("max_magnitude", 0.5)):
            for protocol, bonus in (("agnostic", 0.0), ("aware", aware)):
                each = {task: LEARNED[task][after - 1] + bonus for task in TASKS}
                each = {"all": sum(each.values()) / 3} | each
                found += [Row(after, name, scale, protocol, g, a, 30) for g, a in each.items()]
    return found


def test_the_table_shows_final_accuracies_of_every_model():
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table(rows(), "a title"))
    text = console.file.getvalue()
    assert "a title" in text
    drawn = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    lines = {name.strip(): [cell.strip() for cell in cells] for name, *cells in drawn}
    # weighted by images, and the mean of tasks: agnostic, aware, forgetting
    assert lines["zero-shot"] == ["25.0", "25.0", "25.0", "25.0", "", ""]
    assert lines["max_magnitude@0.5"] == ["60.0", "60.0", "70.0", "70.0", "20.0", "20.0"]


def test_equal_accuracies_are_shown_once():
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table(iter(rows(aware=0.0)), "a title"))
    text = console.file.getvalue()
    drawn = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    lines = {name.strip(): [cell.strip() for cell in cells] for name, *cells in drawn}
    assert lines["max_magnitude@0.5"] == ["60.0", "60.0", "20.0", "20.0"]
    words = " ".join(text.split())
    assert "which is the same among the task's own" in words and "aware" not in words


def swept() -> Scales:
    """The rule above at the published 0.5, and at 0.7, which is better on 12 held-out images."""
    found = []
    for scale, better in ((0.5, 0.0), (0.7, 0.1)):
        for protocol in ("agnostic", "aware"):
            each = {task: LEARNED[task][-1] + better for task in TASKS}
            each = {"all": sum(each.values()) / 3} | each
            for split, count in (("validation", 12), ("test", 30)):
                for g, a in each.items():
                    found.append(Row(3, "max_magnitude", scale, protocol, g, a, count, split=split))
    return Scales(choose(found, apart=False), {"max_magnitude": 0.5})


def test_the_table_shows_and_labels_published_and_chosen_scales():
    console = Console(file=io.StringIO(), width=140)
    console.print(report.table(rows(), "a title", swept()))
    text = console.file.getvalue()
    drawn = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    lines = {name.strip(): [cell.strip() for cell in cells] for name, *cells in drawn}
    assert lines["zero-shot"][0] == lines["last fine-tuned"][0] == ""
    published, chosen = lines["max_magnitude@0.5"], lines["max_magnitude@0.7"]
    assert published == ["published", "60.0", "60.0", "70.0", "70.0", "20.0", "20.0"]
    # Forgetting would need evaluations after every task.
    assert chosen == ["chosen", "70.0", "70.0", "70.0", "70.0", "", ""]
    words = " ".join(text.split())
    assert "chosen as the best on 12 held-out training images" in words


def test_paths_may_be_text_and_rows_any_iterable(tmp_path):
    report.plot(iter(rows()), "a title", str(tmp_path / "a" / "one.png"))
    report.plot(rows(), "a title", tmp_path / "two.png")
    assert (tmp_path / "a" / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_drawing_and_writing_errors_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="the rows hold none of the pretrained model"):
        report.plot([row for row in rows() if row.after_task], "a title", tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        report.plot(rows(), "a title", tmp_path / "file" / "a.png")


def test_a_terminal_of_80_columns_shows_whole_names():
    console = Console(file=io.StringIO(), width=80)
    console.print(report.table(rows(), "a title", swept()))
    text = console.file.getvalue()
    for word in ("max_magnitude@0.7", "last fine-tuned", "published", "forgetting"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_picture_shows_chosen_scales_below(tmp_path):
    report.plot(rows(), "a title", tmp_path / "without.png")
    report.plot(rows(), "a title", tmp_path / "with.png", swept())
    with Image.open(tmp_path / "without.png") as plain, Image.open(tmp_path / "with.png") as both:
        assert both.width == plain.width and both.height > plain.height + 200
        below = both.convert("RGB").crop((0, plain.height, both.width, both.height))
    counted = {colour: pixels for pixels, colour in below.getcolors(1 << 20)}
    # Two bars of the rule, 60 and 70 %, and one of the last fine-tuned model, 60 %.
    assert counted[213, 94, 0] > 1.8 * counted[0, 114, 178] > 5_000


def test_the_picture_is_a_complete_png(tmp_path):
    path = tmp_path / "report" / "accuracy.png"
    report.plot(rows(), "a title", path)
    with Image.open(path) as image:
        image.load()
        assert image.width > 900 and image.height > 500
        picture = image.convert("RGB")
    halves = (0, 0, picture.width // 2, 450), (picture.width // 2, 0, picture.width, 450)
    for half in halves:  # all test images, and the first task's
        counted = picture.crop(half).getcolors(1 << 20)
        assert {colour: pixels for pixels, colour in counted}[213, 94, 0] > 500
    assert (0, 114, 178) in {colour for _, colour in picture.getcolors(1 << 20)}
