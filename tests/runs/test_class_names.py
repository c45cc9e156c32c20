"""Class names of a run: its head's names are kept; classes with equal prompts are reported."""

import dataclasses
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magmax_jax.api import evaluate
from magmax_jax.cli.evaluate import main
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.data import Source, load_source
from magmax_jax.errors import UserError
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.evaluation_data import evaluation_scenario
from magmax_jax.runs.file_names import ABOUT, CONFIG
from magmax_jax.runs.manifest import class_names
from magmax_jax.runs.notes import notes_of
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.studies import study
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device

IDS = ("n01440764", "n02099601")


class Said(NullProgress):
    """Collects a run's messages."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def config(tiny_clip, tmp_path_factory):
    """Configuration for a folder of WordNet ids."""
    images, noise = tmp_path_factory.mktemp("old") / "images", np.random.default_rng(0)
    for split in ("train", "test"):
        for name in IDS:
            (images / split / name).mkdir(parents=True)
            for i in range(12):
                pixels = noise.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(images / split / name / f"{i}.png")
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="folder", data_dir=str(images), num_tasks=1),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=(),
        eval_batch_size=24,
    )


@pytest.fixture(scope="module")
def old(config, tmp_path_factory):
    """A run from before WordNet ids had names: its configuration does not mention them."""
    path = tmp_path_factory.mktemp("runs") / "old"
    as_called = dataclasses.replace(config.scenario, names="folder")
    rows = run(dataclasses.replace(config, scenario=as_called), RunDirectory(path))
    (path / CONFIG).write_text(config.to_json())
    return path, rows


@pytest.mark.slow
def test_a_run_continues_with_its_original_names(config, old):
    path, rows = old
    assert class_names(path) == IDS
    results = path / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]))
    said = Said()
    assert run(config, RunDirectory(path), said) == rows
    assert class_names(path) == IDS
    (note,) = [line for line in said.lines if line.startswith("note: images")]
    assert note.startswith("note: images: prompts keep the names of the class folders (n01440764, ")


@pytest.mark.slow
def test_given_images_are_evaluated_with_its_original_names(config, old):
    path, rows = old
    images = load_source("folder", "test", config.scenario.data_dir)
    said = Said()
    found = evaluate([path], test=images, progress=said)
    wanted = {(r.protocol, r.group): r.accuracy for r in rows if r.after_task == 1}
    assert {(r.protocol, r.group): r.accuracy for r in found}.items() <= wanted.items()
    assert any("prompts keep" in line for line in said.lines)


@pytest.mark.slow
def test_its_models_are_evaluated_with_its_original_names(old):
    path, rows = old
    said = Said()
    found = evaluate([path], progress=said)
    last = [row for row in rows if row.after_task == 1 and row.label == "finetuned"]
    assert {(r.protocol, r.group): r.accuracy for r in found} == {
        (r.protocol, r.group): r.accuracy for r in last
    }
    assert sum("prompts keep" in line for line in said.lines) == 1


def recorded(config, run, classes):
    """A run's directory that records the class names of its head."""
    (run / "checkpoints").mkdir(parents=True)
    (run / CONFIG).write_text(config.to_json())
    (run / ABOUT).write_text(json.dumps({"classes": classes}))
    return str(run)


def test_sweeps_and_studies_use_a_runs_original_names(config, tmp_path, monkeypatch):
    found = []

    def build_run(config, scenario, layout, run=None):
        found.append(scenario.heads[0].class_names)
        raise UserError("seen")

    for module in ("magmax_jax.api.sweep_run", "magmax_jax.runs.studies.study"):
        monkeypatch.setattr(import_module(module), "build_run", build_run)
    old = recorded(config, tmp_path / "old", IDS)
    with pytest.raises(UserError, match="seen"):
        main([old, "--sweep.rules", "max_magnitude"])
    with pytest.raises(UserError, match="seen"):
        study(RunDirectory(Path(old)), ["provenance"])
    assert found == [IDS, IDS]


def test_models_are_evaluated_with_the_names_of_the_first_run(config, tmp_path):
    names = ("tench", "Golden Retriever")
    old = recorded(config, tmp_path / "old", IDS)
    new = recorded(config, tmp_path / "new", names)
    scenario = evaluation_scenario([old, new], config.scenario, 5)
    assert scenario.heads[0].class_names == IDS
    kept, differing = scenario.notes
    assert kept.startswith("images: prompts keep the names of the class folders")
    assert differing.startswith(
        f"{new} was trained with other class names ('Golden Retriever') than the first run"
    )
    scenario = evaluation_scenario([new, new], config.scenario, 5)
    assert scenario.heads[0].class_names == names and len(scenario.notes) == 1
    # Other data with the same folders: uses the head that the run was trained with.
    beside = dataclasses.replace(
        config.scenario, dataset=f"folder:{config.scenario.data_dir}", data_dir=None
    )
    assert evaluation_scenario([old], beside, 5).heads[0].class_names == IDS


def test_a_new_run_uses_names_for_the_ids(config):
    scenario = build_scenario(config.scenario, 5)
    assert scenario.heads[0].class_names == ("tench", "Golden Retriever")
    assert scenario.test.class_names == IDS
    (note,) = notes_of(build_run(config, scenario, one_device()))
    assert note.startswith("images: 2 of 2 classes are named by WordNet ids; ")


def test_classes_with_the_same_prompts_are_reported_before_training(tiny_clip):
    names = ("red_fox", "cat", "red fox", "red  fox", "Cat")
    images = np.zeros((5, 16, 16, 3), np.uint8)
    source = Source(images, np.arange(5, dtype=np.int32), names)
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)), scenario=ScenarioConfig(dataset="arrays", num_tasks=1)
    )
    scenario = build_scenario(config.scenario, 5, (source, source))
    parts = build_run(config, scenario, one_device())
    (note,) = [note for note in notes_of(parts) if "prompts" in note]
    assert note.startswith(
        "prompts are the same for 'red_fox' = 'red fox' = 'red  fox': no model can distinguish "
    )
    head = np.asarray(parts.head)
    np.testing.assert_array_equal(head[:, 0], head[:, 2])
    assert (head[:, 1] != head[:, 4]).any()
