"""Batch size of an evaluation: at most the number of images, and one size per run."""

import pytest

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig
from magmax_jax.runs.build import build_run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device


def parts_of(tiny_clip, eval_batch_size=256, **scenario):
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, **scenario),
        eval_batch_size=eval_batch_size,
    )
    return build_run(config, build_scenario(config.scenario, 5), one_device())


def sizes(images):
    batches = list(images.batches)
    assert len(batches) == images.num_batches
    return [len(batch.image) for batch in batches]


@pytest.mark.parametrize(
    ("limit", "asked", "expected"),
    [
        (None, 256, [256, 256]),  # 355 test images: the requested size
        (1, 256, [16]),  # 10 test images
        (1, 4, [4, 4, 4]),
    ],
)
def test_batches_are_no_larger_than_the_set(tiny_clip, limit, asked, expected):
    assert sizes(parts_of(tiny_clip, asked, limit_per_class=limit).test) == expected


def test_all_sets_of_a_run_have_one_batch_size(tiny_clip):
    parts = parts_of(tiny_clip, limit_per_class=20, validation=0.1)
    found = sizes(parts.test) + sizes(parts.test_of(1)) + sizes(parts.validation())
    assert set(found) == {parts.eval_batch_size} == {200}
