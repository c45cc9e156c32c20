"""Checkpoints as named tensors in files: headers read at once, data only when it is asked for.

Any architecture: what a tensor means is its name's business, not ours.
"""

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.storage import hub

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
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
"""safetensors' names of dtypes."""
MERGED = {DTYPES[name] for name in ("F32", "F16", "BF16")}
"""What takes part in merging; all else is theta_0's."""


class Tensor(NamedTuple):
    """Where a tensor lies, and what it is."""

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


@dataclass(frozen=True)
class TensorFiles:
    """A checkpoint: its directory, its files and every tensor in them, in the files' order."""

    directory: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def open_tensors(source: str | Path) -> TensorFiles:
    """Reads the headers of a hub id, a directory or one .safetensors file.

    Raises:
      UserError: there is nothing there, a file is torn or lies about itself, shards are lost or
        hold a tensor twice, or all there is are pickles.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(hub.no_weights(path.parent, {path.name}))
        return open_files(path.parent, [path])
    directory = hub.locate(source)
    names = {p.name for p in directory.iterdir()}
    single = [name for name in hub.SAFETENSORS if name in names and name.endswith(".safetensors")]
    indices = sorted(name for name in names if name.endswith(".safetensors.index.json"))
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if single:
        return open_files(directory, [directory / single[0]])
    if indices:
        return _open_sharded(directory / indices[0])
    if len(others) == 1:
        return open_files(directory, [directory / others[0]])
    if others:
        raise UserError(
            f"{directory} holds {len(others)} safetensors files and no index of them: "
            "name the one that you mean"
        )
    raise UserError(hub.no_weights(directory, names))


def _open_sharded(index: Path) -> TensorFiles:
    try:
        where = dict(json.loads(index.read_text())["weight_map"])
        shards = sorted({str(shard) for shard in where.values()})
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{index} is no index of shards (no weight_map): fetch it again") from None
    lost = [shard for shard in shards if not (index.parent / shard).is_file()]
    if lost:
        raise UserError(f"{index} names shards that are not there: {', '.join(lost)}")
    found = open_files(index.parent, [index.parent / shard for shard in shards])
    absent = sorted(set(where) - set(found.tensors))
    if absent:
        raise UserError(f"{index} names tensors that no shard holds: {', '.join(absent)}")
    return found


def open_files(directory: Path, paths: list[Path]) -> TensorFiles:
    """The tensors of several safetensors files, of any names, as one checkpoint."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        header, inside = read_header(path)
        twice = sorted(set(tensors) & set(inside))
        if twice:
            first = tensors[twice[0]].path
            raise UserError(f"{path} and {first.name} both hold {', '.join(twice)}")
        tensors |= inside
        metadata |= header
    return TensorFiles(directory, tuple(paths), tensors, metadata)


def read_header(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of one safetensors file, in the order of their data.

    Raises:
      UserError: the header is torn, or does not describe exactly the bytes that follow it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = 8 + struct.unpack("<Q", file.read(8))[0]
            if start > size:
                raise ValueError("it is cut off within its header")
            header = json.loads(file.read(start - 8))
            metadata = header.pop("__metadata__", {})
            tensors = {name: _tensor(path, start, entry) for name, entry in header.items()}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    end = start
    ordered = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    for name, tensor in ordered:
        if tensor.offset != end:
            raise UserError(f"{path}: its header puts {name} at a wrong place: fetch it again")
        end += tensor.nbytes
    if end != size:
        raise UserError(f"{path} has {size} bytes, its header describes {end}: fetch it again")
    return metadata, dict(ordered)


def _tensor(path: Path, start: int, entry: dict) -> Tensor:
    low, high = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"unknown dtype {entry['dtype']}")
    shape = tuple(int(n) for n in entry["shape"])
    tensor = Tensor(path, start + int(low), DTYPES[entry["dtype"]], shape)
    if min(shape, default=0) < 0 or high - low != tensor.nbytes:
        raise ValueError(f"{high - low} bytes for {entry['dtype']} {list(shape)}")
    return tensor


class Reader:
    """Reads pieces of tensors into memory that the caller owns; safe to call from threads."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def into(self, out: np.ndarray, tensor: Tensor, start: int = 0) -> None:
        """Fills `out`, one-dimensional and of the tensor's dtype, from its element `start` on.

        Raises:
          UserError: the file became shorter than its header says.
        """
        if tensor.path not in self._files:
            self._files[tensor.path] = os.open(tensor.path, os.O_RDONLY)
        view = memoryview(out.view(np.uint8))
        offset = tensor.offset + start * tensor.dtype.itemsize
        while view:
            count = os.preadv(self._files[tensor.path], [view], offset)
            if not count:
                raise UserError(f"{tensor.path} ended while it was read: fetch it again")
            view, offset = view[count:], offset + count

    def whole(self, tensor: Tensor) -> np.ndarray:
        """The tensor, in memory of its own."""
        out = np.empty(tensor.size, tensor.dtype)
        self.into(out, tensor)
        return out.reshape(tensor.shape)
