"""One entry per kind of file that is read: a valid file, its mutations, and its meaning."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.run_status import RunFollower
from magmax_jax.config import ExperimentConfig
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.inputs.decode import decode_rgb, open_image
from magmax_jax.inputs.processor_settings import read_settings
from magmax_jax.io.safetensors.reader import Reader, open_tensors
from magmax_jax.merge_files.lora.config import read_config as read_lora
from magmax_jax.merge_files.state import MergedModel, MergeHistory, read_state
from magmax_jax.models.checkpoint import read_preprocessor
from magmax_jax.models.clip.checkpoint import read as read_clip
from magmax_jax.models.clip.checkpoint import read_config as read_clip_config
from magmax_jax.models.siglip.checkpoint import read_config as read_siglip_config
from tests.mutants import mutate

Mutate = Callable[[bytes, random.Random], bytes]


class Kind(NamedTuple):
    """One kind of file.

    Attributes:
      file: its name in the folder.
      make: writes the valid folder.
      read: a folder -> the product's result, as from a user's command.
      mutate: corrupts the file.
      agrees: (folder, result) -> whether an accepted file means that result; None if every
        accepted file is a valid document with its own meaning.
    """

    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    mutate: Mutate
    agrees: Callable[[Path, Any], bool] | None = None


def _json(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.2:
        return mutate.of_bytes(data, draw)
    return mutate.of_json(data.decode(), draw).encode("utf-8", "surrogatepass")


def _lines(data: bytes, draw: random.Random) -> bytes:
    """Changes one of several lines."""
    lines = data.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    lines[at] = _json(lines[at], draw) + b"\n"
    return b"".join(lines)


def _safetensors(data: bytes, draw: random.Random) -> bytes:
    return (mutate.of_header if draw.random() < 0.7 else mutate.of_bytes)(data, draw)


# Tensors, in one file and in shards.

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.arange(5, dtype=np.float16),
    "c": np.arange(6, dtype=np.int64).reshape(2, 3),
}
INDEX = "model.safetensors.index.json"


def _make_tensors(folder: Path) -> None:
    save_file(TENSORS, folder / "model.safetensors", {"format": "pt"})


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
    expected = load_file(folder / "model.safetensors")
    return expected.keys() == found.keys() and all(
        np.array_equal(expected[name], found[name], equal_nan=expected[name].dtype.kind == "f")
        for name in expected
    )


def _as_original(folder: Path, found: dict[str, np.ndarray]) -> bool:
    """An index has no numbers: those of the shards must be unchanged."""
    return all(np.array_equal(found[name], TENSORS[name]) for name in found)


# Configurations.


def _written(file: str, content: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(json.dumps(content)) and None


_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_TOWER |= {"intermediate_size": 64, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
CLIP = {
    "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 16,
    "logit_scale_init_value": 2.6592,
    "vision_config": {**_TOWER, "image_size": 16, "patch_size": 8},
    "text_config": {**_TOWER, "vocab_size": 258, "max_position_embeddings": 77,
                    "bos_token_id": 256, "eos_token_id": 257},
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip",
    "vision_config": {**_TOWER, "image_size": 16, "patch_size": 8},
    "text_config": {**_TOWER, "vocab_size": 64, "max_position_embeddings": 16,
                    "projection_size": 32},
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True,
    "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3,
    "rescale_factor": 1 / 255, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
LORA = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "x/y",
    "rank_pattern": {"q_proj": 4}, "alpha_pattern": {}, "use_rslora": False,
    "target_modules": ["q_proj"], "bias": "none", "task_type": None,
}  # fmt: skip


def _settings(folder: Path) -> Any:
    return read_settings(read_preprocessor(folder) or {}, 224)


# A run's files.

ROW = {
    "after_task": 1, "model": "max_magnitude", "scale": 0.5, "protocol": "agnostic",
    "group": "all", "accuracy": 0.5, "count": 10, "top5": 0.9, "split": "test", "chosen": None,
}  # fmt: skip
ABOUT = {
    "scenario": "digits", "classes": ["zero", "one"], "models": 2,
    "tasks": [{"name": "task 1", "classes": [0, 1], "train": 9, "validation": 1, "test": 10}],
    "learned": [{"name": "task 1", "steps": 2, "images": 9, "epochs": 1}],
    "published_scales": {"max_magnitude": 0.5}, "inputs": {"paths": {"x": ["/x", "../x"]}},
    "starts": [{"time": "2026-01-01T00:00:00+00:00", "command": "", "devices": "1 x cpu"}],
}  # fmt: skip
STEP = {"task": 1, "step": 1, "total_step": 1, "loss": 0.5, "seconds": 0.1}


def _make_run(folder: Path) -> None:
    (folder / "config.json").write_text(ExperimentConfig().to_json())
    rows = [ROW | {"after_task": 0, "model": "zero_shot", "scale": None}, ROW]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "about.json").write_text(json.dumps(ABOUT))
    steps = [STEP, STEP | {"step": 2, "total_step": 2}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def _status(folder: Path) -> Any:
    return RunFollower(folder).look(2e9)


# A state, an image, a Flax checkpoint.


def _make_state(folder: Path) -> None:
    tasks = (MergedModel("y", "1" * 64, 1.0),)
    history = MergeHistory("max_magnitude", {"provenance": False}, 0, "x", "0" * 64, tasks)
    save_file({"0/a": TENSORS["a"]}, folder / "state.safetensors", history.to_metadata())


def _image(format_: str, mode: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 31, len(mode)), np.uint8)
        Image.fromarray(pixels.squeeze(), mode).save(folder / "image", format_)

    return make


def _decoded(folder: Path) -> np.ndarray:
    with open_image(folder / "image", "the image") as opened:
        return decode_rgb(opened, "the image")


def _make_msgpack(folder: Path) -> None:
    from flax.serialization import msgpack_serialize

    (folder / "config.json").write_text(json.dumps(CLIP))
    tree = {"vision_model": {"class_embedding": np.ones(32, np.float32)}}
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))


def _flax(folder: Path) -> Any:
    return {name: np.asarray(load()) for name, load in read_clip(folder).tensors.items()}


KINDS = {
    "safetensors": Kind(
        "model.safetensors", _make_tensors, _tensors, _safetensors, _as_safetensors_has_it
    ),
    "index": Kind(INDEX, _make_shards, _tensors, _json, _as_original),
    "clip config": Kind("config.json", _written("config.json", CLIP), read_clip_config, _json),
    "siglip config": Kind(
        "config.json", _written("config.json", SIGLIP), read_siglip_config, _json
    ),
    "processor": Kind(
        "preprocessor_config.json",
        _written("preprocessor_config.json", PROCESSOR),
        _settings,
        _json,
    ),
    "adapter": Kind("adapter_config.json", _written("adapter_config.json", LORA), read_lora, _json),
    "run config": Kind(
        "config.json", _make_run, lambda f: ExperimentConfig.from_file(f / "config.json"), _json
    ),
    "rows": Kind("results.jsonl", _make_run, lambda f: read_rows(f / "results.jsonl"), _lines),
    "status, rows": Kind("results.jsonl", _make_run, _status, _lines),
    "status, steps": Kind("metrics.jsonl", _make_run, _status, _lines),
    "status, about": Kind("about.json", _make_run, _status, _json),
    "state": Kind(
        "state.safetensors",
        _make_state,
        lambda f: read_state(f / "state.safetensors"),
        _safetensors,
    ),
    "msgpack": Kind("flax_model.msgpack", _make_msgpack, _flax, mutate.of_bytes),
    "png": Kind("image", _image("PNG", "RGB"), _decoded, mutate.of_bytes),
    "jpeg": Kind("image", _image("JPEG", "L"), _decoded, mutate.of_bytes),
}
