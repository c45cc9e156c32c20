"""Recognises quantised checkpoints by dtypes, names and configuration, in order to refuse them.

Codes and their scales are only meaningful together: a merge would keep theta_0's codes and average
the scales, which is further from the right answer than theta_0 itself.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from magmax_jax.errors import UserError, counted
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.header import DTYPES, FLOAT8, PACKED, Tensor, name_of
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.hub_metadata import base_models

WHOLE = {DTYPES[name] for name in ("F64", "F32", "F16", "BF16", "C64", "BOOL")}
"""Dtypes that never hold codes."""
BYTES = {DTYPES["I8"], DTYPES["U8"]}
"""Dtypes that mean codes in a layer's weight even without other tensors beside it."""
INTEGERS = {*BYTES, *(DTYPES[name] for name in ("I16", "U16", "I32", "U32"))}
"""Dtypes into which codes are packed."""
_CODES = re.compile(r"^(?!.*mask).*(weight|kernel|quant|packed|codes)")
_SCALES = re.compile(r"scale|absmax|zeros|zero_point")
"""Parts of other programs' names for codes and related tensors in one module."""
_LAYERS = re.compile(r"^(?!.*(mask|ind|ids)).*(weight|kernel|packed)")
"""Names that mean codes if none of the floats beside them, whatever their names, is a matrix."""
SETTINGS = ("quantization_config", "compression_config", "quantization")
"""Keys of `config.json` that describe the quantisation; the last one is MLX's."""


class Sign(NamedTuple):
    """Two names with the same stem that indicate quantised weights."""

    method: str
    codes: str
    """Suffix of the codes' name after the stem."""
    beside: tuple[str, ...]
    """Possible suffixes of the other tensor's name."""
    certain: bool = False
    """Whether the names alone suffice; else the codes' dtype must not be one of `WHOLE`."""


SIGNS = (
    Sign("SqueezeLLM", ".qweight", (".lookup_table",), True),
    Sign("GPTQ or AWQ", ".qweight", (".scales", ".qzeros", ".g_idx", ".wscales"), True),
    Sign("bitsandbytes", "",
         (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
          ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"), True),
    Sign("bitsandbytes", ".weight", (".SCB",), True),
    Sign("compressed-tensors", "weight_packed", ("weight_scale", "weight_shape"), True),
    Sign("compressed-tensors", "weight", ("weight_zero_point", "weight_global_scale"), True),
    Sign("codes with scales", "weight",
         ("weight_scale", "weight_scales", "weight_scale_inv", "weight_scale_2"), True),
    Sign("codes with scales", ".weight", (".qscale_weight", ".scale_weight", ".scales", ".scale")),
    Sign("codes with scales", "", ("_scale", "_scales", "_scale_inv", "_zero_point")),
    Sign("MX", "_blocks", ("_scales",)),
    Sign("Marlin", ".B", (".s",)),
    Sign("QuIP#", ".Qidxs", (".SU", ".SV")),
    Sign("SpQR", ".dense_weights", (".row_offsets", ".col_vals"), True),
    Sign("HQQ", ".W_q", (".scale", ".zero", ".meta")),
    Sign("torchao", "qdata", ("scale", "zero_point")),
    Sign("torchao", "int_data", ("scale", "zero_point")),
    Sign("quanto", "._data", ("._scale",)),
    Sign("AQLM", ".codes", (".codebooks",)),
    Sign("VPTQ", ".indices", (".centroids", ".centroids.weight")),
    Sign("EXL2", ".q_weight", (".q_scale",)),
    Sign("EXL3", ".trellis", (".suh", ".svh", ".su", ".sv")),
)  # fmt: skip
_BESIDE = tuple({end for sign in SIGNS for end in sign.beside})


class Finding(NamedTuple):
    """Codes of a quantised checkpoint."""

    method: str
    name: str
    beside: str | None
    """A tensor that belongs to it."""


def check_whole(files: TensorFiles, wanted: Callable[[str], bool]) -> None:
    """Raises a UserError if `wanted` tensors are quantised, or declared to be."""
    found = list(findings(files.tensors))
    for finding in found:
        if wanted(finding.name) or (finding.beside is not None and wanted(finding.beside)):
            raise refusal(files, finding)
    said = method_of(files)
    if said and not found:
        raise UserError(
            f"{files.directory / 'config.json'} says that the model is quantised ({said}), but "
            "none of its tensors is: remove quantization_config from it if the weights are whole, "
            "or fetch the float16 or bfloat16 edition of this model"
        )


def refusal(files: TensorFiles, finding: Finding, readable: bool = True) -> UserError:
    """The error, naming method, tensor and what to do.

    Args:
      readable: whether to suggest `--dequantise` for 8-bit floats.
    """
    dtype = files.tensors[finding.name].dtype
    method = method_of(files) or finding.method
    named = base_models(files) if files.place == files.directory else []
    edition = f" ({named[0]}, says its model card)" if named else ""
    fp8 = readable and dtype in FLOAT8
    way = ", or convert FP8 to the weights that it encodes with --dequantise" if fp8 else ""
    return UserError(
        f"{files.place} is quantised ({method}: {finding.name} is {name_of(dtype)}), and codes "
        f"cannot be merged: fetch the float16 or bfloat16 edition of this model{edition}{way}"
    )


def described(files: TensorFiles) -> Iterator[str]:
    """A line about codes among the tensors, if there are any."""
    codes = {finding.name: finding.method for finding in findings(files.tensors)}
    if codes:
        name, method = next(iter(codes.items()))
        count = counted(len(codes), "tensor")
        yield f"quantised ({method_of(files) or method}): {count}, {name} first"


def findings(tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """All tensors that hold codes, those recognised by name first."""
    for name in tensors:
        dotted = f".{name}"  # so that top-level names also start with a dot
        for sign in SIGNS if dotted.endswith(_BESIDE) else ():
            for end in sign.beside:
                codes = (dotted.removesuffix(end) + sign.codes)[1:]
                if not dotted.endswith(end) or codes not in tensors:
                    continue
                if sign.certain or tensors[codes].dtype not in WHOLE:
                    yield Finding(sign.method, codes, name)
    scaled = {module for module, _, leaf in map(_split, tensors) if _SCALES.search(leaf)}
    floats: dict[str, bool] = {}  # by module, whether one of its floats is a matrix
    for name, tensor in tensors.items():
        if tensor.dtype in WHOLE:
            module = _split(name)[0]
            floats[module] = floats.get(module, False) or len(tensor.shape) > 1
    for name, tensor in tensors.items():
        module, _, leaf = _split(name)
        matrix = len(tensor.shape) > 1
        if tensor.dtype in FLOAT8:
            yield Finding("8-bit floats", name, None)
        elif tensor.dtype in PACKED or tensor.dtype == DTYPES["F8_E8M0"]:
            yield Finding("MX", name, None)
        # Layer weights are always floats; masks, counters and tables have other names.
        elif matrix and tensor.dtype in BYTES and leaf.endswith(("weight", "kernel")):
            yield Finding("8-bit integers", name, None)
        elif matrix and tensor.dtype in INTEGERS and module in scaled and _CODES.search(leaf):
            yield Finding("integers with scales", name, None)
        elif (
            matrix
            and tensor.dtype in INTEGERS
            and (leaf == "W_q" or (floats.get(module) is False and _LAYERS.search(leaf)))
        ):
            yield Finding("integers in place of weights", name, None)


def method_of(files: TensorFiles) -> str | None:
    """The quantisation method according to `config.json`; None if it says nothing.

    A `config.json` beside a loose file may describe another model, so it is ignored.
    """
    if files.place != files.directory:
        return None
    try:
        config = read_object(files.directory / "config.json") or {}
    except UserError:  # among the problems of theta_0; irrelevant to the other models
        return None
    return next(settings_in(config), None)


def settings_in(config: dict[str, Any]) -> Iterator[str]:
    """The methods named in a configuration, including its parts (text_config and the like)."""
    for key, value in config.items():
        if not isinstance(value, dict):
            continue
        if key not in SETTINGS:
            yield from settings_in(value)
        elif value.get("load_in_4bit") or value.get("load_in_8bit"):
            yield f"bitsandbytes, {4 if value.get('load_in_4bit') else 8} bits"
        elif "quant_method" in value or "bits" in value or "config_groups" in value:
            bits = value.get("bits", value.get("w_bit"))
            method = str(value.get("quant_method", "MLX" if bits else "compressed-tensors"))
            yield f"{method}, {bits} bits" if bits else method


def _split(name: str) -> tuple[str, str, str]:
    return name.rpartition(".")
