"""Configurations from Python: presets, and fields changed by their names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from magmax_jax.api import preset
from magmax_jax.api.presets import PRESETS
from magmax_jax.config import ExperimentConfig, TrainConfig
from magmax_jax.errors import UserError


def test_preset_fields_can_be_changed_at_any_depth():
    assert preset("class") == PRESETS["class"][1] == ExperimentConfig()
    dotted = {"scenario.num_tasks": np.int64(5), "scenario.data_dir": Path("here")}
    config = preset("quickstart", seed=3, train={"epochs": 2, "crop_scale": (0.5, 1)}, **dotted)
    assert (config.seed, config.train.epochs, config.train.crop_scale) == (3, 2, (0.5, 1.0))
    assert (config.scenario.num_tasks, config.scenario.data_dir) == (5, "here")
    assert config.train.batch_size == PRESETS["quickstart"][1].train.batch_size
    whole = config.replace(train=TrainConfig(epochs=1), merges=["average@0.3"])
    assert whole.train == TrainConfig(epochs=1) and whole.merges == ("average@0.3",)
    assert hash(whole) != hash(config) and config.replace() == config


@pytest.mark.parametrize("name", ["quickstart", "styles"])
def test_small_presets_compare_rules_at_scales_that_held_out_images_choose(name):
    config = preset(name)
    assert config.scenario.validation == 0.1
    assert {0.5, 1.0} < set(config.merging.values)
    with pytest.raises(UserError, match=r"or leave out the scales \(merging\.scales=None\)"):
        preset(name, scenario={"validation": 0.0})
    plain = preset(name, scenario={"validation": 0.0}, merging={"scales": None})
    assert plain.merging.values == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, "no field epochs: did you mean train.epochs"),
        ({"train": {"epoch": 2}}, "no field train.epoch: did you mean train.epochs"),
        ({"train.epochs.x": 2}, "no field train.epochs.x"),
        ({"zzz": 2}, "no field zzz: choose from model.source, .*, seed"),
        ({"train.epochs": "2"}, "train: epochs: expected int, found '2'"),
        ({"train": 2}, "train: expected an object, found 2"),
        ({"train.epochs": 0}, "train.epochs is 0: it must be positive"),
        ({"scenario": {"kind": "clas"}}, "'clas' is not a scenario kind"),
    ],
    ids=str,
)
def test_invalid_input_gives_a_one_sentence_error(changes, message):
    with pytest.raises(UserError, match=message):
        preset("quickstart", **changes)


def test_unknown_presets_list_the_known_ones():
    with pytest.raises(
        UserError, match="'quikstart' is not a preset: choose from quickstart, styles"
    ):
        preset("quikstart")


def test_presets_need_no_jax():
    program = (
        "import sys; from magmax_jax.api import preset; preset('class', seed=1)\n"
        "print([m for m in ('jax', 'flax', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
