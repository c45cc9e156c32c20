"""Safetensors files of any dtype, including those that safetensors.numpy cannot write."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def raw(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """Writes tensors given as (safetensors' dtype, shape, bytes), in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [end, end := end + len(data)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def zeros(dtype: str, *shape: int) -> tuple[str, tuple[int, ...], bytes]:
    """A tensor of zeros for `raw`, for code that reads only the header."""
    (bits,) = map(int, re.findall(r"^[A-Z]+(\d+)", dtype))
    return dtype, shape, bytes(int(np.prod(shape)) * bits // 8)


def of_array(array: np.ndarray, dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """An array for `raw`."""
    return dtype, array.shape, array.tobytes()
