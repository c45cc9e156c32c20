"""A folder of images as a data set: `folder`, located by `data_dir`, or `folder:DIR`."""

import os
from pathlib import Path

from magmax_jax.data.array_name import ARRAYS, is_arrays

_WORD = "folder"


def is_folder(dataset: str) -> bool:
    """Whether a data set's name means a folder of images."""
    return dataset.partition(":")[0] == _WORD


def folder_of(dataset: str, data_dir: str | None) -> str | None:
    """The folder of a data set's images; None if none is named, or it is not a folder data set."""
    if not is_folder(dataset):
        return None
    _, colon, folder = dataset.partition(":")
    return (folder or None) if colon else data_dir


def is_existing_folder(dataset: str) -> bool:
    """Whether `folder:DIR` names an existing directory."""
    folder = folder_of(dataset, None)
    return bool(folder) and os.path.isdir(os.path.expanduser(folder or ""))


def title_of(dataset: str, data_dir: str | None) -> str:
    """A data set's display name: a folder's own name, or the data set's name.

    Data passed from Python has no name and is called "arrays".

    >>> title_of("folder:/my/pets", None), title_of("folder:pets/test", None)
    ('pets', 'pets/test')
    """
    if is_arrays(dataset):
        return ARRAYS
    folder = folder_of(dataset, data_dir)
    if not folder:
        return dataset.removeprefix(f"{_WORD}:")
    path = Path(folder)
    if path.name in ("", ".."):  # e.g. "." and "..", which are not names
        path = path.resolve()
    return "/".join(path.parts[-2:]) if path.name in ("train", "test") else path.name
