"""Notes before training about settings with which a run learns little."""

from dataclasses import replace

import pytest
from PIL import Image

from magmax_jax.api.presets import PRESETS
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.runs.build import build_run
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.notes import notes_of, warmup_notes
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from magmax_jax.training import peak_share


def test_a_warmup_longer_than_the_tasks_is_noted_with_its_remedy():
    (note,) = warmup_notes(TrainConfig(), [20, 10, 400])
    assert note == (
        "2 of 3 tasks have 10 to 20 of the 500 steps of warm-up: their learning rate reaches 2 % "
        "of --train.learning-rate (2e-07 of 1e-05); --train.warmup-fraction 0.1 lets it reach all "
        "of it"
    )


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (TrainConfig(), 390),  # cifar100 in 10 tasks, as published
        (TrainConfig(warmup_fraction=1.0), 10),
        (TrainConfig(warmup_steps=0), 10),
    ],
)
def test_tasks_that_get_close_to_the_peak_are_not_noted(recipe, steps):
    assert not warmup_notes(recipe, [steps])


def test_tasks_of_one_class_are_noted(tiny_clip):
    """Their loss ranges over that class only, so it is 0 and so is its gradient."""
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=9, allow_unequal=True, limit_per_class=2
        ),
        train=TrainConfig(warmup_fraction=0.1),
    )

    def notes(config):
        return notes_of(build_run(config, build_scenario(config.scenario, 5), one_device()))

    (note,) = notes(config)
    assert note.startswith("task 1, task 2, task 3") and "single class" in note
    assert not notes(replace(config, scenario=replace(config.scenario, num_tasks=5)))


def test_the_preset_for_folders_suits_80_images(tiny_clip, tmp_path):
    for name in ("circle", "cross", "square", "triangle"):
        for number in range(20):
            path = tmp_path / "shapes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
    _, preset = PRESETS["folder"]
    scenario = replace(preset.scenario, data_dir=str(tmp_path / "shapes"))
    config = replace(preset, model=ModelConfig(str(tiny_clip)), scenario=scenario)
    parts = build_run(config, build_scenario(scenario, config.seed), one_device())
    (note,) = notes_of(parts)
    assert note.startswith("shapes has no train/ and test/: 16 of its 80 images are test images")
    assert [len(task.classes) for task in parts.tasks] == [2, 2]
    assert all(peak_share(config.train, parts.steps(task)) == 1 for task in (1, 2))


def test_plans_have_the_note_on_the_warmup(tiny_clip):
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=5, limit_per_class=9),
        train=TrainConfig(epochs=1, batch_size=9),
    )
    (note,) = estimate(config, data_size(config.scenario, config.seed)).notes
    assert note.startswith("5 of 5 tasks have 2 of the 500 steps of warm-up")
