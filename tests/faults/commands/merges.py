"""Merges: to directories and files, with and without a state, of every kind of source."""

from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from tests.faults.commands.written import Written
from tests.merge_files import adapters
from tests.merge_files.conftest import tensors, write

NAMES = ("base", "one", "two")


def _model(folder: Path, value: float) -> None:
    folder.mkdir()
    weights = {f"layers.{i}.w": np.full((4, 6), value + i, np.float32) for i in range(3)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def _models(folder: Path) -> None:
    for name, value in (("base", 0.0), ("one", 0.5), ("two", -2.0)):
        _model(folder / name, value)


def _adapters(folder: Path) -> None:
    adapters.base(folder / "base")
    for seed, name in enumerate(("one", "two")):
        adapters.adapter(folder / name, seed=seed)


def _shards(folder: Path) -> None:
    for seed, name in enumerate(NAMES):
        write(folder / name, tensors(seed), shards=3)


def _quantized(folder: Path) -> None:
    for seed, name in enumerate(NAMES):
        values = np.random.default_rng(seed).normal(size=(8, 8)).astype(ml_dtypes.float8_e4m3fn)
        scale = np.asarray(2.0**seed, np.float32)
        write(folder / name, {"a.weight": values, "a.weight_scale": scale})


RECIPE = """\
merge_method: ties
base_model: base
models:
- {model: one, parameters: {weight: 0.5, density: 0.5}}
- {model: two, parameters: {weight: 0.5, density: 0.5}}
dtype: float32
"""


def _recipe(folder: Path) -> None:
    _models(folder)
    (folder / "recipe.yml").write_text(RECIPE)


_MERGE = ("merge", "--pretrained", "base", "--finetuned", "one", "two", "--quiet")
_FIRST = ("merge", "--pretrained", "base", "--finetuned", "one", "--quiet")
_STATE = ("--state", "state.safetensors")
MERGES = {
    "merge": Written(_models, (*_MERGE, "--output", "out")),
    "merge to a file": Written(_models, (*_MERGE, "--output", "out.safetensors")),
    "merge with ties": Written(_models, (*_MERGE, "--rule", "ties", "--output", "out")),
    "merge with companions": Written(
        _models, (*_MERGE, "--companions-from", "one", "--output", "out")
    ),
    "merge with a state": Written(_models, (*_MERGE, "--output", "out", *_STATE)),
    "merge to a file with a state": Written(
        _models, (*_MERGE, "--output", "out.safetensors", *_STATE)
    ),
    "merge into a state": Written(
        _models,
        ("merge", "--finetuned", "two", "--quiet", "--output", "out", *_STATE),
        before=((*_FIRST, "--output", "first", *_STATE),),
    ),
    "merge of shards": Written(_shards, (*_MERGE, "--output", "out")),
    "merge of shards to a file with a state": Written(
        _shards, (*_MERGE, "--output", "out.safetensors", *_STATE)
    ),
    "merge by a recipe": Written(_recipe, ("merge", "recipe.yml", "--output", "out", "--quiet")),
    "merge of quantized weights": Written(_quantized, (*_MERGE, "--dequantize", "--output", "out")),
    "merge into a state of emr": Written(
        _models,
        ("merge", "--finetuned", "two", "--quiet", "--output", "out", *_STATE),
        before=((*_FIRST, "--rule", "emr", "--output", "first", *_STATE),),
    ),
    "merge of adapters": Written(_adapters, (*_MERGE, "--output", "out")),
    "merge into an adapter": Written(_adapters, (*_MERGE, "--output", "out", "--lora-rank", "2")),
}
