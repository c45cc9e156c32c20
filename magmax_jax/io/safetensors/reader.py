"""Checkpoints as named tensors in files: headers are read at once, data lazily.

Works for any architecture: tensors are identified by name only.
"""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io import hub, misplaced
from magmax_jax.io.inside import inside
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.digest import Digest
from magmax_jax.io.safetensors.header import Tensor, read_header

MOST_OPEN = 128
"""Files that a reader keeps open: a system allows a process 1,024, and some 256."""
COMPARED = 1 << 20
"""Entries compared at once."""
CONFIGURATIONS = ("config.json", "open_clip_config.json", "adapter_config.json", "modules.json")
"""Files that identify a directory as a model's."""


@dataclass(frozen=True)
class TensorFiles:
    """A checkpoint: its directory, its files and all their tensors, in file order."""

    directory: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    loose: bool = False
    """A single file: other files in its directory do not belong to it."""
    called: Path | None = None
    """The user's name for it if its files were made for this merge, such as a run's model."""

    @property
    def place(self) -> Path:
        """Its name in messages: the directory, or the file if that has its own name."""
        if self.called is not None:
            return self.called
        own = len(self.files) == 1 and self.files[0].name not in (*hub.SAFETENSORS, hub.ADAPTER)
        return self.files[0] if own else self.directory

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def load(self, name: str) -> np.ndarray:
        """One tensor, as a new array; raises like `Reader.into`."""
        with Reader() as reader:
            return reader.whole(self.tensors[name])


def open_tensors(source: str | Path) -> TensorFiles:
    """Reads the headers of a hub id, a directory or one .safetensors file.

    Raises:
      UserError: there is nothing there, a file is truncated or inconsistent, shards are missing or
        contain a tensor twice, there are only pickles, or a directory holds two different models.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.name.endswith(hub.INDEX):
            return _open_sharded(path)
        if path.suffix != ".safetensors":
            raise UserError(hub.no_weights(path.parent, {path.name}))
        return dataclasses.replace(open_files(path.parent, [path]), loose=True)
    directory = hub.locate(source)
    try:
        names = {p.name for p in directory.iterdir()}
    except OSError as error:
        raise UserError(f"{directory} cannot be read ({error.strerror})") from None
    indices = sorted(name for name in names if name.endswith(hub.INDEX))
    others = sorted(name for name in names if name.endswith(".safetensors"))
    known = (*hub.SAFETENSORS, hub.ADAPTER)
    weights = [*(name for name in known if name in names), *indices]
    if not weights and (lost := misplaced.shards_without_index(directory, others)):
        raise UserError(lost)
    if not weights and len(others) > 1:
        raise UserError(
            f"{directory} holds {len(others)} safetensors files but no index of them: name the one "
            "that you want"
        )
    if not weights and not others:
        raise UserError(hub.no_weights(directory, names | misplaced.one_level_down(directory)))
    first = directory / (weights or others)[0]
    if first.suffix == ".json":
        return _open_sharded(first)
    whole = open_files(directory, [first])
    _check_shards_beside(whole)
    loose = not weights and not any(name in names for name in CONFIGURATIONS)
    return dataclasses.replace(whole, loose=loose)


def _open_sharded(index: Path) -> TensorFiles:
    where = (read_object(index) or {}).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise UserError(f"{index} has no weight_map from tensors to shards: fetch it again")
    shards = sorted(inside(index, name) for name in set(where.values()))
    lost = [
        f"{shard.name} (a link to {shard.readlink()})" if shard.is_symlink() else shard.name
        for shard in shards
        if not shard.is_file()
    ]
    if lost:
        raise UserError(
            f"{index} names shards that do not exist: {misplaced.some(lost)}: fetch them into its "
            "directory"
        )
    found = open_files(index.parent, shards)
    absent = sorted(set(where) - set(found.tensors))
    if absent:
        raise UserError(
            f"{index} names tensors that its shards do not hold: {misplaced.some(absent)}: "
            "fetch the index and the shards again, from one revision"
        )
    return found


def _check_shards_beside(whole: TensorFiles) -> None:
    """Refuses a single file beside complete shards of the same name that hold another model.

    Saving a model in shards over an older one in a single file leaves that file in place, and
    transformers then loads the old model.

    Raises:
      UserError: a tensor differs.
    """
    [file] = whole.files
    index = file.with_suffix(hub.INDEX)
    if not index.is_file():
        return
    try:
        shards = _open_sharded(index)
    except UserError:  # left behind by saving in a single file, which removes the shards
        return
    ours = whole.tensors
    shared = sorted(ours.keys() & shards.tensors.keys())
    with Reader() as reader:
        differs = next(
            (n for n in shared if not reader.same_bits(ours[n], shards.tensors[n])), None
        )
    if differs is not None or not shared:
        what = f"differ in {differs}" if shared else "have no tensor in common"
        raise UserError(
            f"{whole.directory} holds two models: {file.name} and the shards of {index.name} "
            f"{what}; saving in shards leaves an older single file in place: delete the old one"
        )


def open_files(directory: Path, paths: list[Path]) -> TensorFiles:
    """The tensors of several safetensors files, whatever their names, as one checkpoint."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        header, inside = read_header(path)
        twice = sorted(set(tensors) & set(inside))
        if twice:
            first = tensors[twice[0]].path
            raise UserError(
                f"{path} and {first.name} both hold {misplaced.some(twice)}: "
                "fetch the index and the shards again, from one revision"
            )
        tensors |= inside
        metadata |= header
    return TensorFiles(directory, tuple(paths), tensors, metadata)


@dataclass
class _Open:
    """An open file, and the number of reads that use it right now."""

    descriptor: int
    users: int = 0


class Reader:
    """Reads pieces of tensors into memory that the caller owns; thread-safe.

    Args:
      digests: hash the bytes passed to `digest`, so that no byte is read twice.
    """

    def __init__(self, digests: Sequence[Digest] = ()) -> None:
        self.digests = digests
        self._files: dict[Path, _Open] = {}
        self._opening = threading.Lock()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def into(self, out: np.ndarray, tensor: Tensor, start: int = 0) -> None:
        """Fills `out`, one-dimensional with the tensor's dtype, from its element `start` on.

        Raises:
          UserError: the file can no longer be read, or is shorter than its header says.
        """
        if isinstance(tensor, Computed):
            tensor.fill(out, start, self.into)
            return
        view = out.view(np.uint8).data
        offset = tensor.offset + start * tensor.dtype.itemsize
        try:
            with self._held(tensor.path) as file:
                while view:
                    count = os.preadv(file, [view], offset)
                    if not count:
                        raise UserError(f"{tensor.path} ended while it was read: fetch it again")
                    view, offset = view[count:], offset + count
        except OSError as error:
            raise UserError(f"{tensor.path} cannot be read ({error.strerror})") from None

    @contextlib.contextmanager
    def _held(self, path: Path) -> Iterator[int]:
        """A file's descriptor, which stays open at least until the caller is done with it."""
        with self._opening:  # opened once, even if several threads need it at once
            held = self._files.pop(path, None) or _Open(os.open(path, os.O_RDONLY))
            held.users += 1
            self._files[path] = held  # the most recently used is last
            while len(self._files) > MOST_OPEN:
                idle = next((each for each, file in self._files.items() if not file.users), None)
                if idle is None:
                    break
                os.close(self._files.pop(idle).descriptor)
        try:
            yield held.descriptor
        finally:
            with self._opening:
                held.users -= 1

    def digest(self, data: np.ndarray, tensor: Tensor, start: int = 0) -> None:
        """Passes what `into` has read to the digests; calls should be in file order.

        Raises:
          UserError: as `into`, for bytes skipped before it.
        """
        if isinstance(tensor, Computed):
            return
        offset = tensor.offset + start * tensor.dtype.itemsize
        for digest in self.digests:
            digest.feed(tensor.path, offset, data.view(np.uint8))

    def same_bits(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors have the same dtype, shape and bits; stops at the first difference.

        Raises:
          UserError: as `into`.
        """
        if one == other:
            return True
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return all(
            self._bits(one, start) == self._bits(other, start)
            for start in range(0, one.size, COMPARED)
        )

    def _bits(self, tensor: Tensor, start: int) -> bytes:
        piece = np.empty(min(COMPARED, tensor.size - start), tensor.dtype)
        self.into(piece, tensor, start)
        return piece.tobytes()

    def whole(self, tensor: Tensor) -> np.ndarray:
        """The tensor, as a new array."""
        out = np.empty(tensor.size, tensor.dtype)
        self.into(out, tensor)
        return out.reshape(tensor.shape)
