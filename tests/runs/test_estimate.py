"""The estimated cost of a run against its actual cost."""

from dataclasses import replace

import pytest

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.models import known_shape
from magmax_jax.registry import MODEL_FAMILIES
from magmax_jax.runs import state
from magmax_jax.runs.build import build_run
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device


def planned(config: ExperimentConfig):
    return estimate(config, data_size(config.scenario, config.seed))


@pytest.fixture
def config(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip), image_size=32),
        scenario=ScenarioConfig(dataset="digits", num_tasks=5, limit_per_class=9),
        train=TrainConfig(epochs=3, batch_size=8),
        merges=("max_magnitude", "max_magnitude@1", "ties"),
    )


@pytest.mark.parametrize(
    "method",
    [
        MethodConfig(),
        MethodConfig(regularizer="ewc"),
        MethodConfig(regularizer="lwf"),
        MethodConfig(joint=True),
        MethodConfig(start="ties@0.3"),
        MethodConfig(start="emr"),
    ],
    ids=["sequential", "ewc", "lwf", "joint", "from a merge", "from another rule's merge"],
)
@pytest.mark.parametrize("keep", [False, True], ids=["", "kept"])
def test_counts_match_the_run(config, method, keep):
    config = replace(config, method=method, checkpoint=CheckpointConfig(keep_tasks=keep))
    parts = build_run(config, build_scenario(config.scenario, config.seed), one_device())
    found = planned(config)
    assert (found.inexact, found.unknown) == ("", "")
    assert found.tasks == len(parts.tasks)
    assert found.steps == sum(parts.steps(task) for task in range(1, found.tasks + 1))
    assert found.nbytes == state.bytes_needed(parts)
    models = 1 if method.joint else 4
    assert found.evaluated == parts.scenario.num_test * (1 + models * found.tasks)
    assert found.images == 3 * 90


@pytest.mark.parametrize(("evaluate", "rounds"), [("last", 1), (2, 3), (1, 5)])
def test_evaluated_images_cover_the_requested_tasks(config, evaluate, rounds):
    found = planned(replace(config, evaluate=evaluate))
    test = build_scenario(config.scenario, config.seed).num_test
    every = planned(config)
    assert found.evaluated == test * (1 + 4 * rounds)
    one = known_shape(config.model.source, config.model.image_size)[0].forward_flops()
    assert every.flops - found.flops == one * test * 4 * (5 - rounds)
    assert found.steps == every.steps and found.nbytes == every.nbytes


def test_operations_count_the_matrix_products(config):
    shape = MODEL_FAMILIES["clip"].published["openai/clip-vit-base-patch16"]
    assert shape.forward_flops() == pytest.approx(35.1e9, rel=0.01)  # 17.6 GMAC
    found, lwf = planned(config), planned(replace(config, method=MethodConfig(regularizer="lwf")))
    one = known_shape(config.model.source, config.model.image_size)[0].forward_flops()
    assert found.flops == one * (3 * found.images + found.evaluated)
    assert lwf.flops - found.flops == one * found.images
    ewc = planned(replace(config, method=MethodConfig(regularizer="ewc")))
    assert ewc.flops - found.flops == one * 3 * 90


@pytest.mark.parametrize(
    ("scenario", "tasks", "steps", "test"),
    [
        (ScenarioConfig(), 10, 10 * 10 * 40, 10_000),
        (ScenarioConfig(num_tasks=50), 50, 50 * 10 * 8, 10_000),
        (ScenarioConfig(limit_per_class=10), 10, 10 * 10, 1000),
        (ScenarioConfig(kind="data", num_tasks=4), 4, 4 * 10 * 98, 10_000),
        (ScenarioConfig(kind="domain", dataset="domainnet"), 6, 6 * 10 * 534, 176_743),
        (
            ScenarioConfig(kind="datasets", datasets=("mnist@2", "cifar10")),
            2,
            2 * 469 + 10 * 391,
            20_000,
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, ScenarioConfig) else None,
)
def test_without_the_data_the_catalogue_is_used(scenario, tasks, steps, test, tmp_path):
    config = ExperimentConfig(scenario=replace(scenario, data_dir=str(tmp_path)), merges=())
    found = planned(config)
    assert found.inexact and (found.tasks, found.steps) == (tasks, steps)
    assert found.evaluated == test * (1 + tasks)


def test_joint_training_of_data_sets_sees_each_image_as_often_as_alone(tmp_path):
    scenario = ScenarioConfig(
        kind="datasets", datasets=("mnist@2", "cifar10@4"), data_dir=str(tmp_path)
    )
    found = planned(ExperimentConfig(scenario=scenario, method=MethodConfig(joint=True)))
    assert (found.tasks, found.images) == (1, 2 * 60_000 + 4 * 50_000)
    assert found.steps == 2 * -(-(60_000 + 2 * 50_000) // 128)


def test_without_the_model_bytes_are_unknown(config, tmp_path, monkeypatch):
    for source, words in (
        ("someone/some-clip", "not on this machine"),
        ("./no", "not a directory"),
    ):
        found = planned(replace(config, model=ModelConfig(source)))
        assert found.nbytes is None and found.flops is None and words in found.unknown
        assert found.steps
    with pytest.raises(UserError, match="neither config"):
        planned(replace(config, model=ModelConfig(str(tmp_path))))
    with pytest.raises(UserError, match="not a multiple"):
        planned(replace(config, model=replace(config.model, image_size=13)))


def test_data_outside_the_catalogue_must_exist(tmp_path):
    for dataset in ("folder", "mnits"):
        with pytest.raises(UserError):
            data_size(ScenarioConfig(dataset=dataset, data_dir=str(tmp_path)), 5)
