"""User-registered data sets and image folders, through public names only."""

import subprocess
import sys

import numpy as np
import pytest

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import DataSet, Source, load_source, order, prompt_names, templates
from magmax_jax.data.folder_name import folder_of, title_of
from magmax_jax.registry import DATA_SETS
from magmax_jax.runs.estimate import DataSize, TaskSize, data_size
from magmax_jax.scenarios import build_scenario


def read_squares(split, data_dir):
    count = 12 if split == "train" else 4
    labels = (np.arange(count) % 4).astype(np.int32)
    images = np.repeat(labels.astype(np.uint8), 48).reshape(-1, 4, 4, 3)
    return Source(images, labels, ("red_square", "b", "c", "d"), image_shape=(4, 4))


@pytest.fixture
def squares():
    yield DATA_SETS.register("squares", DataSet(name="squares", read=read_squares))
    DATA_SETS.unregister("squares")


def test_a_name_and_a_reader_are_enough(squares):
    assert "squares" in DATA_SETS and DATA_SETS["squares"] is squares
    scenario = build_scenario(ScenarioConfig(dataset="squares", num_tasks=2), seed=0)
    assert [len(task.train) for task in scenario.tasks] == [6, 6]
    assert scenario.heads[0].class_names == ("red square", "b", "c", "d")
    assert scenario.heads[0].templates == ("a photo of a {}.",)
    config = ScenarioConfig(kind="datasets", datasets=("squares@3", "digits"))
    tasks = build_scenario(config, seed=0).tasks
    assert [(task.name, task.epochs) for task in tasks] == [("squares", 3), ("digits", 10)]


def test_a_plan_uses_the_given_sizes_or_reads_the_data(squares):
    config = ScenarioConfig(dataset="squares", num_tasks=2)
    assert data_size(config, seed=0) == DataSize((TaskSize(6, 10), TaskSize(6, 10)), 4, 4, "")
    large = DataSet(name="squares", read=read_squares, classes=4, train_size=400_000, test_size=8)
    DATA_SETS.replace("squares", large)
    planned = data_size(config, seed=0)
    assert [task.images for task in planned.tasks] == [200_000, 200_000] and planned.test == 8
    assert planned.inexact == "too many images to look through"


def test_published_facts_are_used(squares):
    row = DataSet(
        name="squares",
        read=read_squares,
        templates=("a {} square",),
        class_names=("red", "green", "blue", "grey"),
        naming="listed",
        class_order=(3, 2, 1, 0),
        epochs=2,
    )
    DATA_SETS.replace("squares", row)
    assert templates("squares") == ("a {} square",)
    names = load_source("squares", "test").class_names
    assert prompt_names("squares", names) == ("red", "green", "blue", "grey")
    assert order("squares", names).tolist() == [3, 2, 1, 0]
    scenario = build_scenario(ScenarioConfig(dataset="squares", num_tasks=4), seed=0)
    assert [task.classes.tolist() for task in scenario.tasks] == [[3], [2], [1], [0]]
    assert {task.epochs for task in scenario.tasks} == {2}


@pytest.mark.parametrize(
    ("dataset", "data_dir", "folder", "title"),
    [
        ("folder", "/a/pets", "/a/pets", "pets"),
        ("folder", None, None, "folder"),
        ("folder:/b/cats", "/a", "/b/cats", "cats"),
        ("folder:", "/a", None, ""),
        ("mnist", "/a", None, "mnist"),
        ("folders", "/a", None, "folders"),
    ],
)
def test_folders(dataset, data_dir, folder, title):
    assert folder_of(dataset, data_dir) == folder
    assert title_of(dataset, data_dir) == title


def test_facts_are_listed_without_slow_imports():
    program = (
        "import sys\n"
        "import magmax_jax.data\n"
        "from magmax_jax.data.catalogue import LISTS, find, prepared_names\n"
        "from magmax_jax.data.published import templates\n"
        "from magmax_jax.registry import DATA_SETS\n"
        "print(len(list(DATA_SETS.values())), find('eurosat/rgb').name, len(prepared_names()))\n"
        "slow = ('jax', 'flax', 'grain', 'tensorflow_datasets', 'sklearn', 'PIL')\n"
        "print([module for module in slow if module in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.splitlines() == ["24 eurosat 22", "[]"], shown.stderr
