"""EWC's Fisher from a sample of each task's training images."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from magmax_jax.config import (
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.models import known_shape
from magmax_jax.registry import REGULARIZERS
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.notes import notes_of
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from magmax_jax.training import Regularizer, RegularizerSpec

IMAGES = 30
"""Training images of each of the two tasks."""


@pytest.fixture(scope="module")
def config(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=6),
        method=MethodConfig(regularizer="ewc"),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=(),
        eval_batch_size=32,
        evaluate="last",
    )


def of(config: ExperimentConfig, images: int | None, **changes) -> ExperimentConfig:
    """The configuration with at most `images` images for the Fisher, and other changes."""
    return config.replace(method={"fisher_images": images}, **changes)


@pytest.fixture(scope="module")
def built(config):
    """A function of a configuration with the same model and data as `config`."""
    parts = build_run(config, build_scenario(config.scenario, config.seed), one_device())
    return lambda changed: replace(parts, config=changed)


def images_of(batches) -> list[int]:
    return [int(i) for batch in batches for i in batch.index[batch.mask]]


def test_the_sample_comes_from_the_task_and_depends_only_on_the_seed(config, built):
    parts = built(of(config, 11))
    found = images_of(parts.batches_once(2))
    assert len(found) == len(set(found)) == 11
    assert set(found) <= set(parts.tasks[1].train)
    assert images_of(built(of(config, 11)).batches_once(2)) == found
    assert set(images_of(built(of(config, 11, seed=6)).batches_once(2))) != set(found)
    assert len(list(parts.batches_once(2))) == 2  # batches of eight; 30 images make four


@pytest.mark.parametrize("images", [None, IMAGES, 10**9])
def test_without_a_limit_all_images_are_read_as_before(config, built, images):
    parts = built(of(config, images))
    for ours, before in zip(parts.batches_once(1), parts.train_batches(1, 1), strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, before)


def test_a_run_reads_the_sample_once_after_each_task(config, built, tmp_path):
    read = []

    def build(setup):
        def consolidate(memory, params, batches, objective):
            read.append(images_of(batches))
            return memory

        return Regularizer(lambda theta: (), lambda memory, params, forward: 0.0, consolidate)

    options = {"images_option": "fisher_images", "options": ("fisher_images",)}
    REGULARIZERS.register("spy", RegularizerSpec("Spy", build, strength=1.0, **options))
    try:
        method = {"regularizer": "spy", "fisher_images": 11}
        run(config.replace(method=method), RunDirectory(tmp_path / "run"))
    finally:
        REGULARIZERS.unregister("spy")
    parts = built(of(config, 11))
    assert [sorted(found) for found in read] == [
        sorted(images_of(parts.batches_once(task))) for task in (1, 2)
    ]


def test_the_estimate_counts_the_images_read(config):
    size = data_size(config.scenario, config.seed)
    assert [task.images for task in size.tasks] == [IMAGES, IMAGES]
    one = known_shape(config.model.source, config.model.image_size)[0].forward_flops()
    everything, some = (estimate(of(config, images), size).flops for images in (None, 11))
    assert everything - some == one * 3 * 2 * (IMAGES - 11)
    assert estimate(of(config, 10**9), size).flops == everything


def test_runs_are_recognised_as_before_unless_images_are_limited(config, tmp_path):
    assert "fisher_images" not in json.loads(config.to_json())["method"]
    file = tmp_path / "config.json"
    file.write_text(of(config, 11).to_json())
    assert ExperimentConfig.from_file(file) == of(config, 11)


@pytest.mark.parametrize("images", [0, -3])
def test_zero_images_are_refused(config, images):
    with pytest.raises(UserError, match=rf"method.fisher_images is {images}: it must be positive"):
        of(config, images)


def test_notes_say_what_a_limit_does_not_affect(config, built):
    def notes(images, fisher="empirical"):
        method = {"fisher": fisher, "fisher_images": images}
        return [n for n in notes_of(built(config.replace(method=method))) if "fisher" in n]

    assert notes(None) == notes(11) == notes(None, "accumulated") == []
    assert notes(IMAGES) == [
        f"--method.fisher-images {IMAGES} changes nothing: no task has more training images"
    ]
    assert notes(11, "accumulated") == [
        "--method.fisher accumulated grows with the number of batches: from 11 images per task, "
        "the same strength is a weaker penalty"
    ]
