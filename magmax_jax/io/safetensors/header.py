"""Reads a safetensors file's header, and checks it against the bytes that follow."""

import itertools
import json
import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io import file_kinds
from magmax_jax.io.json_files import parse

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F4": np.dtype([("F4", "V1")]),
    "F6_E2M3": np.dtype([("F6_E2M3", "V3")]),
    "F6_E3M2": np.dtype([("F6_E3M2", "V3")]),
    "C64": np.dtype(np.complex64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""safetensors' names for dtypes."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
PACKED = {DTYPES["F4"]: 2, DTYPES["F6_E2M3"]: 4, DTYPES["F6_E3M2"]: 4}
"""Sub-byte dtypes, and how many entries along the last axis make one of our elements.

They are opaque bytes here: they can be copied, but not computed with.
"""
FLOAT8 = {DTYPES[name] for name in ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")}
"""8-bit floats that can be weights; F8_E8M0 holds powers of two and is only for scales."""


def name_of(dtype: np.dtype) -> str:
    """The name in messages: NumPy's, or safetensors' where that is better known."""
    if dtype in PACKED:
        return NAMES[dtype]
    rare = dtype in FLOAT8 or dtype in (DTYPES["F8_E8M0"], DTYPES["C64"])
    return f"{dtype} ({NAMES[dtype]})" if rare else str(dtype)


class Tensor(NamedTuple):
    """A tensor's location, dtype and shape."""

    path: Path
    offset: int
    """Bytes from the start of the file."""
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


def read_header(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of one safetensors file, in the order of their data.

    Raises:
      UserError: the header is truncated, names a tensor twice, lets tensors overlap, or does not
        describe exactly the bytes that follow it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = 8 + struct.unpack("<Q", file.read(8))[0]
            if start > size:
                raise ValueError(
                    f"it is cut off within its header, which takes {start} bytes of {size}"
                )
            header = _object(file.read(start - 8), path)
        metadata = _metadata(path, header.pop("__metadata__", None))
        tensors = {name: _tensor(path, start, entry) for name, entry in header.items()}
        return metadata, _in_order(path, tensors, start, size)
    except UserError:
        raise
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which does not exist: fetch the file again"
            ) from None
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (
        *(ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error),
    ) as error:
        if other := file_kinds.describe(_head(path)):
            raise UserError(f"{path} {other}") from None
        raise UserError(
            f"{path} is not a complete safetensors file ({error}): fetch it again"
        ) from None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(file_kinds.HEAD)


def _object(header: bytes, path: Path) -> dict[str, Any]:
    """The header's JSON, whose text must be Unicode in UTF-8.

    Python's parser also takes UTF-16, UTF-32, byte order marks and halves of surrogate pairs, which
    the format does not have and other readers refuse.

    Raises:
      ValueError: it is not.
    """
    found = parse(header.decode(), path)
    if b"\\u" in header:  # only an escape can still be half a pair
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _metadata(path: Path, found: Any) -> dict[str, str]:
    """The metadata as safetensors reads it: null means none, and every value is a string.

    Raises:
      UserError: it is something else.
    """
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: its __metadata__ is not a JSON object: save the model again")
    for name, value in found.items():
        if not isinstance(value, str):
            raise UserError(
                f"{path}: {name!r} in its __metadata__ is not a string, which safetensors forbids: "
                "save the model again"
            )
    return found


def _tensor(path: Path, start: int, entry: dict) -> Tensor:
    low, high = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"unknown dtype {entry['dtype']}")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    for number in (low, high, *shape):
        if type(number) is not int:  # 1.0 and true too: other readers refuse them
            raise ValueError(f"{number} is not an integer")
    if dtype in PACKED:
        last, rest = divmod(shape[-1] if shape else 1, PACKED[dtype])
        if rest:
            raise UserError(
                f"{path} holds {entry['dtype']} {list(shape)}, whose rows end within a byte: "
                "fetch the model in another dtype"
            )
        shape = (*shape[:-1], last)
    tensor = Tensor(path, start + low, dtype, shape)
    if min(shape, default=0) < 0 or high - low != tensor.nbytes:
        raise ValueError(f"{high - low} bytes for {entry['dtype']} {list(shape)}")
    return tensor


def _in_order(path: Path, tensors: dict[str, Tensor], start: int, size: int) -> dict[str, Tensor]:
    """The tensors in file order; raises a ValueError unless they fill the file exactly."""
    ordered = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    filled = [(name, tensor) for name, tensor in ordered if tensor.nbytes]
    tied = [
        f"{first} and {second}"
        for (first, one), (second, other) in itertools.pairwise(filled)
        if other.offset < one.offset + one.nbytes
    ]
    if tied:
        raise UserError(
            f"{path}: {', '.join(tied)} share bytes, but safetensors forbids tied tensors: "
            "save the model again with transformers' save_pretrained"
        )
    for name, tensor in ordered:
        if tensor.offset != start:
            raise ValueError(f"its header puts {name} in the wrong place")
        start += tensor.nbytes
    if start != size:
        missing = f": {start - size} are missing" if start > size else ""
        raise ValueError(f"it has {size} bytes, its header describes {start}{missing}")
    return dict(ordered)
