"""Which runs are compared, and how they are labelled."""

from dataclasses import replace
from pathlib import Path

import pytest

from magmax_jax.config import MeshConfig, MethodConfig, TrainConfig
from magmax_jax.evaluation.metrics import measure
from magmax_jax.report.groups import MAX_DRAWN, grouped, short_names
from magmax_jax.report.items import Folded, Grid
from magmax_jax.report.paper_table import columns, find_runs
from magmax_jax.report.picture import plot
from magmax_jax.report.runs import Run
from magmax_jax.report.sections import over_tasks
from magmax_jax.report.style import FLAT, JOINT
from magmax_jax.report.terminal import table
from magmax_jax.runs.directory import RunDirectory
from tests.report.made_up import config, write


def made(folder: Path, *configs) -> list[Run]:
    return [
        Run(write(folder / str(i), each, rows_only=True), each) for i, each in enumerate(configs)
    ]


@pytest.mark.parametrize(
    ("configs", "names"),
    [
        ([config()], ["sequential"]),
        ([config(), config(sequential=False)], ["sequential", "independent"]),
        ([config(seed=1), config(seed=2)], ["sequential, seed 1", "sequential, seed 2"]),
        (
            [config(), replace(config(), train=TrainConfig(epochs=2), mesh=MeshConfig(data=1))],
            ["sequential, epochs none", "sequential, epochs 2"],
        ),
        (
            [
                config(joint=True, merges=()),
                replace(config(), method=MethodConfig(regularizer="ewc")),
            ],
            ["joint", "EWC"],
        ),
        (
            [
                replace(config(), method=MethodConfig(regularizer="ewc", **images))
                for images in ({}, {"fisher_images": 1000})
            ],
            ["EWC", "EWC of 1,000 images"],
        ),
        ([config(), config()], ["sequential (1)", "sequential (2)"]),
        (
            [
                config(sequential=False),
                replace(config(), method=MethodConfig(start="ema@1")),
                replace(config(), method=MethodConfig(start="ema@1", regularizer="lwf")),
            ],
            ["independent", "start ema@1", "LwF, start ema@1"],
        ),
    ],
    ids=["one", "methods", "seeds", "fields", "baselines", "samples", "alike", "starts"],
)
def test_names_distinguish_runs(configs, names):
    assert short_names(configs) == names


def test_scenarios_are_grouped_separately(tmp_path):
    runs = made(
        tmp_path, config(2), config(3), config(2, sequential=False), config(2, dataset="cars")
    )
    groups = grouped(runs)
    assert [len(group.runs) for group in groups] == [2, 1, 1]
    assert [group.title for group in groups] == [
        "cifar100, class-incremental, 2 tasks",
        "cifar100, class-incremental, 3 tasks",
        "cars, class-incremental, 2 tasks",
    ]


def test_the_pretrained_model_is_listed_once_and_joint_training_by_name(tmp_path):
    [group] = grouped(made(tmp_path, config(2, merges=()), config(2, joint=True, merges=())))
    listed = [(run, label) for run, label, _ in group.evaluated("agnostic")]
    assert listed == [("pretrained", "zero_shot"), ("sequential", "finetuned"), ("joint", JOINT)]


def test_intransigence_uses_the_independent_run_of_the_same_seed(tmp_path):
    configs = [config(2), config(2, 1, sequential=False), config(2, 5, sequential=False)]
    [group] = grouped(made(tmp_path, *configs))
    alone = group.independent("sequential, seed 5", "agnostic")
    assert alone is not None
    assert (alone.accuracy == group.runs[2].agnostic["finetuned"].accuracy).all()
    history = group.runs[0].agnostic["finetuned"]
    assert measure(history, alone)["intransigence"].weighted is not None


def test_too_many_lines_are_split_over_several_figures(tmp_path):
    few = grouped(made(tmp_path / "few", config(2), config(2, sequential=False)))
    configs = [config(2, seed) for seed in range(3)]
    many = grouped(made(tmp_path / "many", *configs))
    assert len(over_tasks.curves(few[0])) == 3
    assert len(over_tasks.curves(many[0])) == 3 * 4  # one per model


def test_figures_of_many_models_show_the_best(tmp_path):
    setting = config(2, merges=())
    path = write(tmp_path, setting)
    last = [row for row in Run(path, setting).rows if row.model == "finetuned"]
    scales = [scale / 32 for scale in range(1, 33)]
    RunDirectory(path).append(
        replace(r, model="average", scale=s, accuracy=r.accuracy * s) for s in scales for r in last
    )
    [group] = grouped([Run(path, setting)])
    best = [f"average@{scale:g}" for scale in sorted(scales, reverse=True)][: MAX_DRAWN - 1]
    assert group.drawn == ["finetuned", *best, *FLAT]
    for figure in over_tasks.curves(group):
        assert {r["model"] for r in figure.records} - {"zero_shot"} == {"finetuned", *best}
        assert "the best of the other 32" in figure.caption
    [few] = grouped(made(tmp_path / "few", config(2)))
    assert few.drawn == few.labels and few.left_out == ""


def test_tasks_that_were_not_evaluated_are_left_out(tmp_path):
    runs = made(tmp_path, replace(config(6), evaluate=4), config(6))
    [group] = grouped(runs)
    assert group.names == ["sequential (1)", "sequential (2)"]
    some = {
        record["after_task"]
        for figure in over_tasks.curves(group)
        for record in figure.records
        if record["run"] == group.names[0] and record["model"] == "finetuned"
    }
    assert some == {0, 4, 6}
    figures = [item for item in over_tasks.matrices(group) if hasattr(item, "records")]
    shown = [{record["after_task"] for record in figure.records} for figure in figures]
    assert shown == [{0, 4, 6}] * 2 + [set(range(7))] * 2
    folded = next(item for item in over_tasks.matrices(group) if isinstance(item, Folded))
    grid = next(item for item in folded.items if isinstance(item, Grid))
    assert {record["after_task"] for record in grid.records} == {0, 4, 6}
    mean, *each = over_tasks.losses(group)
    assert {record["run"] for record in mean.records} == {group.names[1]} and len(each) == 1
    [note] = over_tasks.losses(grouped(runs[:1])[0])
    assert "--evaluate every" in note.text


def test_runs_share_a_table_column_however_often_they_were_evaluated(tmp_path):
    runs = made(tmp_path, replace(config(3, seed=1), evaluate="last"), config(3, seed=2))
    (column,) = columns(runs, "last_accuracy", None)
    assert {seed for values in column.values.values() for seed in values} == {1, 2}
    (column,) = columns(runs, "forgetting", None)
    assert {seed for values in column.values.values() for seed in values} == {2}
    found, notes = find_runs([tmp_path])
    assert len(found) == 2 and not notes


def test_the_terminal_table_says_why_forgetting_is_unknown(tmp_path):
    few, every = made(tmp_path, replace(config(3), evaluate="last"), config(3))
    assert "--evaluate every" in table(few.rows, "").caption
    assert "--evaluate every" not in table(every.rows, "").caption
    assert [*table(few.rows, "").columns[5].cells][1:] == [""] * 4
    plot(few.rows, "", tmp_path / "few.png")
