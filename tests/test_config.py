"""The configuration: JSON there and back, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest

from magmax_jax.api.presets import PRESETS
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    MeshConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.training import check_method


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_survives_its_own_json(name, tmp_path):
    _, config = PRESETS[name]
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert ExperimentConfig.from_file(file) == config


def test_every_field_survives_json(tmp_path):
    config = ExperimentConfig(
        model=ModelConfig("there", 112, "bfloat16"),
        scenario=ScenarioConfig(
            kind="domain",
            dataset="folder",
            datasets=("mnist@3", "dtd"),
            data_dir="here",
            num_tasks=3,
            allow_unequal=True,
            order="random",
            shuffle_tasks=True,
            limit_per_class=7,
            templates=("a {}.",),
            names="plain",
        ),
        method=MethodConfig(True, "ewc", 10.0, "batch"),
        train=TrainConfig(
            1, 2, 0.5, 0.0, 2.0, 3, 0.25, 0.1, (0.5, 0.75), 2, ("vision_model.*",), 2, True
        ),
        merging=MergingConfig("clip", "two"),
        mesh=MeshConfig(2, 4),
        checkpoint=CheckpointConfig(7, True),
        merges=("average@0.3",),
        eval_batch_size=9,
        evaluate=3,
        seed=1,
    )
    default = ExperimentConfig()
    for field in dataclasses.fields(config):
        assert getattr(config, field.name) != getattr(default, field.name)
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert ExperimentConfig.from_file(file) == config


def test_missing_fields_keep_their_defaults(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"train": {"epochs": 3}}')
    assert ExperimentConfig.from_file(file) == ExperimentConfig(train=TrainConfig(epochs=3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable JSON configuration"),
        ('{"tain": {}}', "unknown fields tain"),
        ('{"train": {"epoch": 3}}', "train: unknown fields epoch"),
        ('{"train": {"epochs": "3"}}', "train: epochs: expected int, found '3'"),
        ('{"train": {"epochs": true}}', "train: epochs: expected int, found True"),
        ('{"model": {"dtype": "int8"}}', "'int8' is none of 'float32', 'bfloat16'"),
        ('{"method": {"regularizer": "ewk"}}', "'ewk' is no regularizer: choose from none, ewc"),
        ('{"method": {"regularizer": 3}}', "method: regularizer: expected str, found 3"),
        ('{"merges": "average"}', "merges: expected a list"),
        ('{"train": 3}', "train: expected an object"),
        ('{"train": {"crop_scale": [0.9]}}', "train: crop_scale: expected 2 values, found [0.9]"),
        ('{"train": {"epochs": 0}}', "train.epochs is 0: it must be positive"),
        ('{"evaluate": 0}', "evaluate is 0: choose every, last or a positive number of tasks"),
        ('{"evaluate": "never"}', "evaluate: 'never' is none of 'every', 'last'"),
    ],
)
def test_a_wrong_file_is_told_where_it_is_wrong(content, message, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(UserError) as raised:
        ExperimentConfig.from_file(file)
    assert message in str(raised.value) and str(raised.value).startswith(f"{file}: ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such configuration file"):
        ExperimentConfig.from_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(warmup_fraction=1.5),
        lambda: TrainConfig(crop_scale=(0.9, 0.5)),
        lambda: TrainConfig(label_smoothing=1.0),
        lambda: TrainConfig(learning_rate=-1e-5),
        lambda: TrainConfig(accumulate=0),
        lambda: TrainConfig(batch_size=128, accumulate=3),
        lambda: MeshConfig(data=0),
        lambda: MeshConfig(fsdp=-1),
        lambda: ScenarioConfig(num_tasks=0),
        lambda: ScenarioConfig(templates=("no place",)),
        lambda: ModelConfig(image_size=0),
        lambda: ExperimentConfig(eval_batch_size=0),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"regularizer": "ewc", "strength": -1.0}, "strength is -1.0: it must be finite"),
        ({"regularizer": "ewc", "strength": float("nan")}, "strength is nan: it must be finite"),
        ({"strength": 3.0}, "no method.regularizer is chosen"),
        ({"regularizer": "l2_sp"}, "l2_sp needs a method.strength"),
        (
            {"regularizer": "lwf", "fisher": "batch"},
            "for method.regularizer ewc alone, not for lwf",
        ),
        ({"regularizer": "ewc", "sequential": False}, "ewc holds a task to the one before"),
        ({"regularizer": "lwf", "sequential": False}, "lwf holds a task to the one before"),
        ({"regularizer": "ewc", "joint": True}, "nor method.regularizer ewc or lwf has a meaning"),
        ({"sequential": False, "joint": True}, "learns all tasks at once"),
    ],
)
def test_methods_that_contradict_themselves_are_refused(method, message):
    with pytest.raises(UserError, match=message):
        check_method(MethodConfig(**method))


def test_l2_sp_remembers_no_task_and_so_also_suits_independent_fine_tuning():
    check_method(MethodConfig(sequential=False, regularizer="l2_sp", strength=0.1))


def test_the_json_is_for_people_too():
    text = ExperimentConfig().to_json()
    assert json.loads(text)["train"]["learning_rate"] == 1e-5
    assert text.count("\n") > 20


def test_a_configuration_of_an_earlier_run_is_written_again_as_it_was(tmp_path):
    """Of a run of commit 8d6db0e: runs are recognised, and grid cells named, by this text."""
    file = Path(__file__).parent / "runs" / "config_of_an_earlier_run.json"
    config = ExperimentConfig.from_file(file)
    assert config.to_json() == file.read_text()
    completed = config.replace(model={"text_source": "some/clip"})
    (tmp_path / "config.json").write_text(completed.to_json())
    assert ExperimentConfig.from_file(tmp_path / "config.json") == completed


@pytest.mark.parametrize(
    ("evaluate", "tasks"),
    [("every", (1, 2, 3, 4, 5)), ("last", (5,)), (2, (2, 4, 5)), (5, (5,)), (9, (5,))],
)
def test_the_last_task_is_always_evaluated(evaluate, tasks, tmp_path):
    config = ExperimentConfig(evaluate=evaluate)
    assert config.evaluated_after(5) == tasks
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert ExperimentConfig.from_file(file) == config
    assert ExperimentConfig().replace(evaluate=evaluate) == config
    assert ("evaluate" in json.loads(config.to_json())) == (evaluate != "every")
