"""A user's own metric and report section appear everywhere after registration alone."""

import csv
import io

import pytest

import experiments
from magmax_jax.cli.main import main
from magmax_jax.evaluation.metrics import Metric
from magmax_jax.registry import METRICS, REPORT_SECTIONS
from magmax_jax.report.items import Column, Note, Table
from magmax_jax.report.section import Section
from tests.report.made_up import config, write


def worst_task(history, weighted):
    return float(history.accuracy[-1].min())


def gap(history, independent, weighted):
    return float((independent.accuracy[-1] - history.accuracy[-1]).mean())


@pytest.fixture
def own():
    METRICS.register("worst_task", Metric("Worst task", "%", "the lowest one's", worst_task))
    compared = Metric("Gap", "points", "to learning alone", gap, needs_independent=True, flag="gap")
    METRICS.register("gap_to_alone", compared)

    def items(group):
        records = [{"run": run.name, "tasks": len(run.tasks)} for run in group.runs]
        table = Table("luck", "Luck by run", "How lucky.", records, [Column("tasks", "Tasks")])
        return [Note("Luck is made by:", group.program.line("run", "luck")), table]

    REPORT_SECTIONS.register("luck", Section("Luck", 25, items))
    yield
    METRICS.unregister("worst_task")
    METRICS.unregister("gap_to_alone")
    REPORT_SECTIONS.unregister("luck")


@pytest.fixture
def runs(tmp_path):
    for name, sequential in (("a", True), ("b", False)):
        write(tmp_path / name, config(2, sequential=sequential, merges=()), rows_only=True)
    return tmp_path


def shown(capsys, *argv) -> str:
    try:
        code = main([str(word) for word in argv])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_a_metric_can_be_chosen_in_the_table(own, runs, capsys):
    listed = shown(capsys, "table", "--help")
    assert "worst_task" in listed and "(default: last)" in listed
    for name, title in (("worst_task", "worst task, %"), ("gap", "gap, points")):
        text = shown(capsys, "table", runs, "--metric", name)
        assert f"{title}, mean over the tasks" in text and "sequential fine-tuning | " in text
    lines = shown(capsys, "table", runs, "--metric", "worst_task", "--format", "csv")
    rows = {row["method"]: float(row["mean"]) for row in csv.DictReader(io.StringIO(lines))}
    assert 0 < rows["sequential fine-tuning"] < 100


def test_a_metric_that_is_not_registered_is_refused(runs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["table", str(runs), "--metric", "worst_task"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "last" in error and "backward_transfer" in error


@pytest.mark.parametrize("flag", ["backward_transfer", "incremental_accuracy", "intransigence"])
def test_every_bundled_metric_can_be_chosen(runs, flag, capsys):
    assert "| sequential fine-tuning | " in shown(capsys, "table", runs, "--metric", flag)


def test_a_metric_and_a_section_are_on_the_page(own, runs, tmp_path, monkeypatch, capsys):
    from magmax_jax.report import page
    from magmax_jax.report.render import Picture

    monkeypatch.setattr(page, "render", lambda figure: Picture(b"<svg/>", b"png", (300, 200)))
    assert main(["report", str(runs), "--out", str(tmp_path / "out")], experiments.PROGRAM) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    assert "Worst task, %" in text and "Worst task: the lowest one&#39;s." in text
    with (tmp_path / "out" / "data" / "measures-agnostic.csv").open() as file:
        [line] = [row for row in csv.DictReader(file) if row["run"] == "sequential"]
    assert 0 < float(line["worst_task_weighted"]) < 1
    assert -1 < float(line["gap_to_alone_task_mean"]) < 1
    assert text.index(">Measures<") < text.index(">Luck<") < text.index(">Accuracy over tasks<")
    assert (tmp_path / "out" / "data" / "luck.csv").is_file()
    assert "python -m experiments.run luck" in text and "magmax run" not in text
