"""The configuration: JSON round trip, and refused values."""

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
def test_every_preset_round_trips_through_json(name, tmp_path):
    _, config = PRESETS[name]
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert ExperimentConfig.from_file(file) == config


def test_every_field_round_trips_through_json(tmp_path):
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
        method=MethodConfig(True, "ewc", 10.0, "batch", fisher_images=9, start="ties@0.7"),
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
        ("{", "cannot be read as a configuration"),
        ('{"tain": {}}', "unknown fields tain"),
        ('{"train": {"epoch": 3}}', "train: unknown fields epoch"),
        ('{"train": {"epochs": "3"}}', "train: epochs: expected int, found '3'"),
        ('{"train": {"epochs": true}}', "train: epochs: expected int, found True"),
        ('{"model": {"dtype": "int8"}}', "'int8' is not one of 'float32', 'bfloat16'"),
        ('{"method": {"regularizer": "ewk"}}', "'ewk' is not a regularizer: choose from none, ewc"),
        ('{"method": {"regularizer": 3}}', "method: regularizer: expected str, found 3"),
        ('{"merges": "average"}', "merges: expected a list"),
        ('{"train": 3}', "train: expected an object"),
        ('{"train": {"crop_scale": [0.9]}}', "train: crop_scale: expected 2 values, found [0.9]"),
        ('{"train": {"epochs": 0}}', "train.epochs is 0: it must be positive"),
        ('{"evaluate": 0}', "evaluate is 0: choose every, last or a positive number of tasks"),
        ('{"scenario": {"validation": %s}}' % 10**400, "scenario: validation: 1"),
        ('{"evaluate": "never"}', "evaluate: 'never' is not one of 'every', 'last'"),
    ],
)
def test_errors_in_a_file_are_located(content, message, tmp_path):
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
        ({"regularizer": "ewc", "strength": 10**400}, "strength is 1"),
        ({"strength": 3.0}, "no method.regularizer is chosen"),
        ({"regularizer": "l2_sp"}, "l2_sp needs a method.strength"),
        (
            {"regularizer": "lwf", "fisher": "batch"},
            "to method.regularizer ewc only, not to lwf",
        ),
        ({"regularizer": "ewc", "sequential": False}, "ewc keeps a task close to the previous one"),
        ({"regularizer": "lwf", "sequential": False}, "lwf keeps a task close to the previous one"),
        ({"regularizer": "ewc", "joint": True}, "nor method.regularizer ewc or lwf applies"),
        ({"sequential": False, "joint": True}, "learns all tasks at once"),
        ({"start": "ema", "joint": True}, "learns all tasks at once: neither .* method.start nor"),
    ],
)
def test_methods_that_contradict_themselves_are_refused(method, message):
    with pytest.raises(UserError, match=message):
        check_method(MethodConfig(**method))


@pytest.mark.parametrize(
    ("spellings", "starts_from"),
    [
        (({}, {"start": "last"}, {"sequential": True, "start": None}), "last"),
        (({"sequential": False}, {"start": "pretrained"}), "pretrained"),
        (({"start": "ema@0.7"}, {"sequential": True, "start": "ema@0.7"}), "ema@0.7"),
    ],
)
def test_a_start_is_one_configuration_however_it_is_spelled(spellings, starts_from, tmp_path):
    configs = [ExperimentConfig(method=MethodConfig(**spelling)) for spelling in spellings]
    assert len(set(configs)) == len({config.to_json() for config in configs}) == 1
    method = configs[0].method
    assert method.starts_from == starts_from and method.sequential == (starts_from != "pretrained")
    file = tmp_path / "config.json"
    file.write_text(configs[0].to_json())
    written = json.loads(file.read_text())["method"]
    assert ExperimentConfig.from_file(file) == configs[0]
    assert written["sequential"] is method.sequential
    assert written.get("start", starts_from) == starts_from and ("start" in written) == (
        starts_from == "ema@0.7"
    )


def test_a_start_can_be_changed_like_any_field():
    merge, alone = (ExperimentConfig(method=MethodConfig(start=s)) for s in ("ema", "pretrained"))
    assert merge.replace(method={"start": "last"}) == ExperimentConfig()
    assert merge.replace(method={"start": "pretrained"}) == alone
    assert alone.replace(method={"sequential": True}) == ExperimentConfig()
    assert alone.replace(method={"sequential": True, "start": "ema"}) == merge
    for start in ("ema", "last"):
        with pytest.raises(UserError, match=f"theta_0, but method.start is {start}: choose method"):
            alone.replace(method={"start": start})


def test_regularizers_on_the_previous_task_work_with_a_merge_as_the_start():
    for name in ("ewc", "lwf"):
        check_method(MethodConfig(start="average@0.5", regularizer=name))


def test_l2_sp_remembers_no_task_so_it_works_with_independent_fine_tuning():
    check_method(MethodConfig(sequential=False, regularizer="l2_sp", strength=0.1))


def test_the_json_is_human_readable():
    text = ExperimentConfig().to_json()
    assert json.loads(text)["train"]["learning_rate"] == 1e-5
    assert text.count("\n") > 20


def test_an_earlier_runs_configuration_is_rewritten_unchanged(tmp_path):
    """From a run of commit 8d6db0e: this text identifies runs and names grid cells."""
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
