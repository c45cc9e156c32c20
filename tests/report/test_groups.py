"""Which runs are compared, and what tells them apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from magmax_jax.config import MeshConfig, MethodConfig, TrainConfig
from magmax_jax.evaluation.metrics import measure
from magmax_jax.report.groups import MAX_DRAWN, grouped, short_names
from magmax_jax.report.runs import Run
from magmax_jax.report.sections import over_tasks
from magmax_jax.report.style import FLAT, JOINT
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
        ([config(), config()], ["sequential (1)", "sequential (2)"]),
    ],
    ids=["one", "methods", "seeds", "fields", "baselines", "alike"],
)
def test_names_tell_runs_apart(configs, names):
    assert short_names(configs) == names


def test_scenarios_stand_apart(tmp_path):
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


def test_the_pretrained_model_is_told_once_and_joint_training_by_its_name(tmp_path):
    [group] = grouped(made(tmp_path, config(2, merges=()), config(2, joint=True, merges=())))
    told = [(run, label) for run, label, _ in group.evaluated("agnostic")]
    assert told == [("pretrained", "zero_shot"), ("sequential", "finetuned"), ("joint", JOINT)]


def test_intransigence_is_against_the_independent_run_of_the_seed(tmp_path):
    configs = [config(2), config(2, 1, sequential=False), config(2, 5, sequential=False)]
    [group] = grouped(made(tmp_path, *configs))
    alone = group.independent("sequential, seed 5", "agnostic")
    assert alone is not None
    assert (alone.accuracy == group.runs[2].agnostic["finetuned"].accuracy).all()
    history = group.runs[0].agnostic["finetuned"]
    assert measure(history, alone)["intransigence"].weighted is not None


def test_too_many_lines_are_shared_out_among_figures(tmp_path):
    few = grouped(made(tmp_path / "few", config(2), config(2, sequential=False)))
    configs = [config(2, seed) for seed in range(3)]
    many = grouped(made(tmp_path / "many", *configs))
    assert len(over_tasks.curves(few[0])) == 3
    assert len(over_tasks.curves(many[0])) == 3 * 4  # one a model


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
