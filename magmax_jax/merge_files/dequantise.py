"""Reads FP8 checkpoints as the weights they represent, codes times scales: `--dequantise`."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.errors import UserError, counted
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.float8 import computed, scaled_codes
from magmax_jax.io.safetensors.header import DTYPES, FLOAT8, Tensor, name_of
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.quantised import SETTINGS, findings, refusal

DEFAULT_DTYPE = "bfloat16"
"""Dtype of dequantised tensors unless --out-dtype is set, as in transformers."""
_SCALE_DTYPES = {DTYPES[name] for name in ("F32", "F16", "BF16", "F8_E8M0")}
_PUBLISHED_BLOCK = (128, 128)
"""DeepSeek-V3's, which transformers uses if a configuration has none."""
_SCALES = ("weight_scale_inv", "weight_scale", "scale_weight", "qscale_weight")
"""Names of the scale beside `weight`; beside another name, that name plus _scale or _scale_inv."""
_OF_ACTIVATIONS = (
    "input_scale", "activation_scale", "output_scale", "scale_input", "qscale_act",
    "input_scale_ub", "k_scale", "v_scale", "scaled_fp8", "comfy_quant",
)  # fmt: skip
"""Other tensors that FP8 computation needs; dequantised weights have no use for them."""


def read_as_weights(files: TensorFiles) -> TensorFiles:
    """The checkpoint with float32 tensors in place of 8-bit floats, and without their scales.

    Reads headers and configuration only.

    Raises:
      UserError: tensors are quantised in another way, or a scale does not fit its tensor in exactly
        one way.
    """
    tensors, dropped = dict(files.tensors), set()
    for name, tensor in files.tensors.items():
        if tensor.dtype not in FLOAT8 or _is_of_activations(name):
            continue
        scale = next((s for s in _names_of_scale(name) if s in files.tensors), None)
        tensors[name] = _weights(files, name, tensor, scale)
        dropped |= {scale} if scale else set()
    read = {name for name, tensor in tensors.items() if scaled_codes(tensor)} - dropped
    if read:
        dropped |= {name for name in tensors if _is_of_activations(name)}
    # Everything that belongs to codes must have been used.
    codes, beside = read | dropped, {None, *dropped}
    for other in findings(files.tensors):
        if other.name not in codes or other.beside not in beside:
            raise UserError(
                f"{refusal(files, other, False)} (--dequantise does not support such codes)"
            )
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    return dataclasses.replace(files, tensors=kept)


def out_dtypes(pretrained: TensorFiles, out_dtype: str | None) -> dict[str, np.dtype]:
    """Dtypes of theta_0's dequantised tensors in the output."""
    dtype = np.dtype(out_dtype or DEFAULT_DTYPE)
    return {name: dtype for name, tensor in pretrained.tensors.items() if scaled_codes(tensor)}


def notes(pretrained: TensorFiles, models: Iterable[TensorFiles]) -> Iterator[str]:
    """What was read differently from how it is stored."""
    for files in (pretrained, *models):
        found = [codes for codes in map(scaled_codes, files.tensors.values()) if codes]
        scaled = sum(codes.scale is not None for codes in found)
        for count, how in ((scaled, "times their scales"), (len(found) - scaled, "as they are")):
            if count:
                yield f"{files.place}: 8-bit floats read {how}: {counted(count, 'tensor')}"


def as_written(name: str, read: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A kept tensor, in the output's dtype.

    Raises:
      UserError: a value overflows the dtype.
    """
    if read.dtype == dtype:
        return read
    with np.errstate(over="ignore"):
        written = read.astype(dtype)
    if np.isfinite(read).all() and not np.isfinite(written.astype(np.float32)).all():
        raise UserError(f"{name} exceeds {dtype}: choose --out-dtype bfloat16 or float32")
    return written


def write_whole_config(directory: Path, pretrained: TensorFiles, out_dtype: str | None) -> None:
    """Corrects the output's `config.json`: it is not quantised, and has the dequantised dtype."""
    (directory / "hf_quant_config.json").unlink(missing_ok=True)
    path = directory / "config.json"
    before = read_object(path)
    if before is None:
        return
    config = _without_settings(before)
    if out_dtypes(pretrained, out_dtype):
        config.pop("torch_dtype", None)
        config["dtype"] = out_dtype or DEFAULT_DTYPE
    if config != before:
        path.write_text(json.dumps(config, indent=2) + "\n")


def _without_settings(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_settings(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in SETTINGS or not isinstance(value, dict)
    }


def _names_of_scale(name: str) -> list[str]:
    stem = name.removesuffix("weight")
    beside = [stem + scale for scale in _SCALES] if stem != name else []
    return [*beside, f"{name}_scale_inv", f"{name}_scale"]


def _is_of_activations(name: str) -> bool:
    return name.rpartition(".")[2] in _OF_ACTIVATIONS


def _weights(files: TensorFiles, name: str, codes: Tensor, scale: str | None) -> Computed:
    found = files.tensors[scale] if scale else None
    if found is None or (found.dtype in _SCALE_DTYPES and found.size == 1):
        return computed(codes, found, (1, 1))
    blocks = _blocks(files, codes, found) if found.dtype in _SCALE_DTYPES else set()
    if len(blocks) != 1:
        scales = f"{files.place}: {scale} ({name_of(found.dtype)} {list(found.shape)})"
        weights = f"{name} {list(codes.shape)}"
        raise UserError(
            f"{scales} fits {weights} with blocks of several sizes: name the right one as "
            "weight_block_size in quantization_config of its config.json"
            if blocks
            else f"{scales} is neither one scale for {weights} nor one for each of its blocks: "
            "fetch the float16 or bfloat16 edition of this model"
        )
    return computed(codes, found, blocks.pop())


def _blocks(files: TensorFiles, tensor: Tensor, scale: Tensor) -> set[tuple[int, int]]:
    """Block sizes, (rows, columns), for which the scale has one entry per block.

    The configuration's if it fits; blocks at the ends may be partial.
    """
    matrices = len(tensor.shape) == len(scale.shape) >= 2 and scale.size > 0
    if not matrices or tensor.shape[:-2] != scale.shape[:-2]:
        return set()
    (rows, columns), (down, along) = tensor.shape[-2:], scale.shape[-2:]

    def clipped(block: tuple[int, int]) -> tuple[int, int] | None:
        a, b = min(block[0], rows), min(block[1], columns)
        return (a, b) if (-(-rows // a), -(-columns // b)) == (down, along) else None

    config = read_object(files.directory / "config.json") or {}
    for block in map(clipped, _blocks_in(config)):
        if block:
            return {block}
    even = (rows // down, columns // along) if rows % down == columns % along == 0 else None
    guesses = [block for block in (_PUBLISHED_BLOCK, even) if block]
    return {block for block in map(clipped, guesses) if block}


def _blocks_in(config: Any) -> Iterator[tuple[int, int]]:
    """Every block size in a configuration."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if key in ("weight_block_size", "block_structure") and isinstance(value, list):
            if len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value):
                yield value[0], value[1]
        else:
            yield from _blocks_in(value)
