"""Lists the files of a data set's images, with sizes, to detect changes of the data.

Names and sizes are compared, not contents: replacing a file by one of the same size is not noticed.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from magmax_jax.data.array_name import is_arrays
from magmax_jax.data.folder_name import folder_of, is_folder
from magmax_jax.errors import counted
from magmax_jax.registry import DATA_SETS

Sizes = dict[str, int]
"""File name, relative to its directory and with forward slashes -> bytes; -1 for a dead link."""
FOLDER, SHARDS = "folder", "shards"


class Place(NamedTuple):
    """A directory of data.

    Attributes:
      kind: FOLDER, of images in class folders, or SHARDS, as TFDS prepares them.
      path: absolute.
    """

    kind: str
    path: str

    def sizes(self) -> Sizes:
        """Sizes of the files that are read there; {} if there is no such directory."""
        root = Path(self.path)
        if not root.is_dir():
            return {}
        if self.kind == SHARDS:
            return {path.name: _size(path) for path in root.glob("*-of-*")}
        from magmax_jax.data.readers.folder import image_files

        start = len(self.path.rstrip(os.sep)) + 1
        return {file.path[start:].replace(os.sep, "/"): _size(file) for file in image_files(root)}


def places(dataset: str, data_dir: str | None) -> list[Place] | None:
    """The directories of a data set, one per domain if domains are TFDS configs.

    None for one with its own reader, or passed from Python.
    """
    if (dataset in DATA_SETS and DATA_SETS[dataset].read) or is_arrays(dataset):
        return None
    if is_folder(dataset):
        folder = Path(folder_of(dataset, data_dir) or "").expanduser()
        return [Place(FOLDER, os.path.abspath(folder))]
    from magmax_jax.data.catalogue import expand
    from magmax_jax.data.readers.tfds_builder import builder_of
    from magmax_jax.data.readers.tfds_records import quiet

    with quiet():
        folders = [str(builder_of(name, data_dir).data_dir) for name in expand(dataset)[0]]
    return [Place(SHARDS, os.path.abspath(folder)) for folder in folders]


def digest_of(sizes: Sizes) -> str:
    """sha256 of the names and sizes."""
    return hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()


def difference(before: Sizes, now: Sizes) -> str:
    """The difference of two lists: "3 files added, 1 file removed, 2 files of another size"."""
    added, removed = now.keys() - before.keys(), before.keys() - now.keys()
    resized = {name for name in now.keys() & before.keys() if now[name] != before[name]}
    kinds = ((added, "added"), (removed, "removed"), (resized, "of another size"))
    return ", ".join(f"{counted(len(names), 'file')} {how}" for names, how in kinds if names)


def _size(file: Path | os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
