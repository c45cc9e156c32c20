"""Configurations: of models, processors, adapters and runs."""

from pathlib import Path
from typing import Any

from magmax_jax.config import ExperimentConfig
from magmax_jax.inputs.processor_settings import read_settings
from magmax_jax.io.json_files import read_object
from magmax_jax.models.checkpoint import OPENCLIP, read_preprocessor
from magmax_jax.models.clip.checkpoint import read_config as read_clip_config
from magmax_jax.models.clip.openclip_preprocessor import openclip_preprocessor
from magmax_jax.models.siglip.checkpoint import read_config as read_siglip_config
from tests.mutants.kind import Kind, in_json, written

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
OPENCLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 16, "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "head_width": 32,
                       "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 77, "vocab_size": 258, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "mode": "RGB",
                       "interpolation": "bicubic", "resize_mode": "longest",
                       "fill_color": [0, 0, 0], "size": [16, 16]},
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True,
    "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3,
    "rescale_factor": 1 / 255, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip


def _settings(folder: Path) -> Any:
    return read_settings(read_preprocessor(folder) or {}, 224)


def _openclip(folder: Path) -> Any:
    content = read_object(folder / OPENCLIP) or {}
    return read_clip_config(folder), openclip_preprocessor(content)


def _make_run_config(folder: Path) -> None:
    (folder / "config.json").write_text(ExperimentConfig().to_json())


def _run_config(folder: Path) -> ExperimentConfig:
    return ExperimentConfig.from_file(folder / "config.json")


KINDS = {
    "clip config": Kind("config.json", written("config.json", CLIP), read_clip_config, in_json),
    "siglip config": Kind(
        "config.json", written("config.json", SIGLIP), read_siglip_config, in_json
    ),
    "openclip config": Kind(OPENCLIP, written(OPENCLIP, OPENCLIP_CONFIG), _openclip, in_json),
    "processor": Kind(
        "preprocessor_config.json",
        written("preprocessor_config.json", PROCESSOR),
        _settings,
        in_json,
    ),
    "run config": Kind("config.json", _make_run_config, _run_config, in_json),
}
