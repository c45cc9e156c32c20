"""Writes safetensors from data that comes piece by piece; files appear complete or not at all."""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from magmax_jax.io.safetensors.header import NAMES, PACKED
from magmax_jax.io.whole_writes import pwrite_all

SHARD_BYTES = 5 << 30
"""Largest file; a larger tensor gets its own."""
_CLOSED = -1

TensorSpecs = Mapping[str, tuple[np.dtype, tuple[int, ...]]]
"""Name -> (dtype, shape), in the order of tensors in a file."""


def nbytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


class FileWriter:
    """One safetensors file: space is allocated at the start, the header written last.

    Args:
      path: of the new file; a temporary name, to be renamed once `close` has returned.
      tensors: what it will hold.
      metadata_bytes: space in the header for the metadata given to `close`.

    Raises:
      OSError: a disk operation fails, or the disk is full.
    """

    def __init__(self, path: Path, tensors: TensorSpecs, metadata_bytes: int = 64):
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        end = 0
        for name, (dtype, shape) in tensors.items():
            start, end = end, end + nbytes(dtype, shape)
            whole = [*shape[:-1], shape[-1] * PACKED[dtype]] if dtype in PACKED else list(shape)
            entry = {"dtype": NAMES[dtype], "shape": whole, "data_offsets": [start, end]}
            self._entries[name] = entry
        # Padded so that the data is aligned for every dtype and device.
        self._data = -(-(8 + len(json.dumps(self._entries)) + metadata_bytes) // 64) * 64
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Allocating all space now reports a full disk before the work, not after it.
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(self._file, 0, self._data + end)
        except BaseException:
            self.abandon()
            raise

    def write(self, name: str, data: np.ndarray, start: int = 0) -> None:
        """Writes `data`, of the tensor's dtype, as its elements from `start` on."""
        view = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        offset = self._data + self._entries[name]["data_offsets"][0] + start * data.itemsize
        pwrite_all(self._file, view, offset)

    def close(self, metadata: Mapping[str, str]) -> None:
        """Writes the header, which completes the file."""
        header = json.dumps({"__metadata__": dict(metadata)} | self._entries).encode()
        room = self._data - 8
        if len(header) > room:
            raise ValueError(f"a header of {len(header)} bytes in room for {room}")
        header = header.ljust(room)
        pwrite_all(self._file, room.to_bytes(8, "little") + header, 0)
        os.close(self._file)
        self._file = _CLOSED

    def abandon(self) -> None:
        """Removes what was written, unless it has been renamed."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED
        self.path.unlink(missing_ok=True)


class DirectoryWriter:
    """The weights of a model, in shards; complete once its `with` block ends without an error.

    Args:
      directory: an existing empty one.
      tensors: of the model.
      shard_bytes: largest file.
      stem: start of file names, before the shard numbers and `.safetensors`.
      twins: by tensor name, others of its dtype and shape that are written with its data.

    Raises:
      OSError: a disk operation fails, or the disk is full.
    """

    def __init__(
        self,
        directory: Path,
        tensors: TensorSpecs,
        shard_bytes: int = SHARD_BYTES,
        stem: str = "model",
        twins: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ):
        self._twins = twins
        shards: list[dict] = [{}]
        filled = 0
        for name, what in tensors.items():
            size = nbytes(*what)
            if filled and filled + size > shard_bytes:
                shards.append({})
                filled = 0
            shards[-1][name] = what
            filled += size
        self._writers: dict[str, FileWriter] = {}
        with contextlib.ExitStack() as undo:
            for i, shard in enumerate(shards, start=1):
                name = f"{stem}-{i:05}-of-{len(shards):05}" if len(shards) > 1 else stem
                writer = FileWriter(directory / f"{name}.safetensors", shard)
                undo.callback(writer.abandon)
                self._writers |= dict.fromkeys(shard, writer)
            if len(shards) > 1:
                where = {name: writer.path.name for name, writer in self._writers.items()}
                total = sum(nbytes(*what) for what in tensors.values())
                index = {"metadata": {"total_size": total}, "weight_map": where}
                text = json.dumps(index, indent=2) + "\n"
                (directory / f"{stem}.safetensors.index.json").write_text(text)
            self._undo = undo.pop_all()

    def write(self, name: str, data: np.ndarray, start: int = 0) -> None:
        """As `FileWriter.write`, in the shards that hold the tensor and its twins."""
        for each in (name, *self._twins.get(name, ())):
            self._writers[each].write(each, data, start)

    def __enter__(self) -> "DirectoryWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo.close()
            return
        for writer in set(self._writers.values()):
            writer.close({"format": "pt"})


class OneFileWriter(DirectoryWriter):
    """The weights of a model in one file with any name; arguments as for `DirectoryWriter`.

    Raises:
      OSError: a disk operation fails, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        tensors: TensorSpecs,
        twins: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ):
        self._twins = twins
        writer = FileWriter(path, tensors)
        self._writers = dict.fromkeys(tensors, writer)
        self._undo = contextlib.ExitStack()
        self._undo.callback(writer.abandon)
