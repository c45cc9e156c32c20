"""Tensors: safetensors in one file and in shards, states, FP8 with scales, and msgpack."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from magmax_jax.io.safetensors.reader import Reader, open_tensors
from magmax_jax.merge_files.dequantise import read_as_weights
from magmax_jax.merge_files.state import MergedModel, MergeHistory, read_state
from magmax_jax.models.clip.checkpoint import read as read_clip
from tests.helpers.raw_safetensors import of_array, raw
from tests.mutants import mutate
from tests.mutants.kind import Kind, in_json, in_safetensors
from tests.mutants.kinds.configurations import CLIP

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.arange(5, dtype=np.float16),
    "c": np.arange(6, dtype=np.int64).reshape(2, 3),
}
MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"


def _make_tensors(folder: Path) -> None:
    save_file(TENSORS, folder / MODEL, {"format": "pt"})


def _make_shards(folder: Path) -> None:
    where = {name: f"model-{i}.safetensors" for i, name in enumerate(TENSORS, start=1)}
    for name, shard in where.items():
        save_file({name: TENSORS[name]}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 106}, "weight_map": where}))


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    found = open_tensors(folder)
    with Reader() as reader:
        return {name: reader.whole(tensor) for name, tensor in found.tensors.items()}


def _as_safetensors_has_it(folder: Path, found: dict[str, np.ndarray]) -> bool:
    """Whether the safetensors library reads the same numbers."""
    expected = load_file(folder / MODEL)
    return expected.keys() == found.keys() and all(
        np.array_equal(expected[name], found[name], equal_nan=expected[name].dtype.kind == "f")
        for name in expected
    )


def _as_honest(folder: Path, found: dict[str, np.ndarray]) -> bool:
    """An index has no numbers: those of the shards must be unchanged."""
    return all(np.array_equal(found[name], TENSORS[name]) for name in found)


def _make_state(folder: Path) -> None:
    tasks = (MergedModel("y", "1" * 64, 1.0),)
    history = MergeHistory("max_magnitude", {"provenance": False}, 0, "x", "0" * 64, tasks)
    save_file({"0/a": TENSORS["a"]}, folder / "state.safetensors", history.to_metadata())


# 8-bit floats: one scale for a whole tensor, and one for each block.

BLOCK = (4, 2)
FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": list(BLOCK)}}


def _make_float8(folder: Path) -> None:
    draw = np.random.default_rng(0)
    codes = {name: draw.normal(size=(6, 4)).astype(ml_dtypes.float8_e4m3fn) for name in "ab"}
    raw(
        folder / MODEL,
        {
            "a.weight": of_array(codes["a"], "F8_E4M3"),
            "a.weight_scale": of_array(np.array([0.5], np.float32), "F32"),
            "b.weight": of_array(codes["b"], "F8_E4M3"),
            "b.weight_scale_inv": of_array(np.arange(1, 5, dtype=np.float32).reshape(2, 2), "F32"),
            "c": of_array(TENSORS["a"], "F32"),
        },
    )
    (folder / "config.json").write_text(json.dumps(FP8))


def _dequantised(folder: Path) -> dict[str, np.ndarray]:
    found = read_as_weights(open_tensors(folder))
    with Reader() as reader:
        return {name: reader.whole(tensor) for name, tensor in found.tensors.items()}


def _as_multiplied(folder: Path, found: dict[str, np.ndarray]) -> bool:
    """Whether codes of the valid file's names and shapes are multiplied by their scales."""
    kept = open_tensors(folder)
    config = json.loads((folder / "config.json").read_text())
    for name, scale, shape in (
        ("a.weight", "a.weight_scale", (1,)),
        ("b.weight", "b.weight_scale_inv", (2, 2)),
    ):
        there = name in kept.tensors and scale in kept.tensors and config == FP8
        if not there or kept.tensors[scale].shape != shape or kept.tensors[name].shape != (6, 4):
            continue
        codes, scales = (kept.load(each).astype(np.float32) for each in (name, scale))
        if shape != (1,):
            scales = np.repeat(np.repeat(scales, BLOCK[0], 0)[:6], BLOCK[1], 1)
        if kept.tensors[name].dtype != ml_dtypes.float8_e4m3fn:
            continue
        with np.errstate(all="ignore"):
            if not np.array_equal(codes * scales, found[name], equal_nan=True):
                return False
    return True


def _make_msgpack(folder: Path) -> None:
    from flax.serialization import msgpack_serialize

    (folder / "config.json").write_text(json.dumps(CLIP))
    tree = {"vision_model": {"class_embedding": np.ones(32, np.float32)}}
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))


def _flax(folder: Path) -> Any:
    return {name: np.asarray(load()) for name, load in read_clip(folder).tensors.items()}


KINDS = {
    "safetensors": Kind(MODEL, _make_tensors, _tensors, in_safetensors, _as_safetensors_has_it),
    "index": Kind(INDEX, _make_shards, _tensors, in_json, _as_honest),
    "float8": Kind(MODEL, _make_float8, _dequantised, in_safetensors, _as_multiplied),
    "float8, config": Kind("config.json", _make_float8, _dequantised, in_json, _as_multiplied),
    "state": Kind(
        "state.safetensors",
        _make_state,
        lambda f: read_state(f / "state.safetensors"),
        in_safetensors,
    ),
    "msgpack": Kind("flax_model.msgpack", _make_msgpack, _flax, mutate.of_bytes),
}
