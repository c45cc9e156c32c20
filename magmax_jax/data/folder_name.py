"""A folder of images as a data set: `folder`, which `data_dir` points to, or `folder:DIR`."""

import os
from pathlib import Path

from magmax_jax.data.array_name import ARRAYS, is_arrays

_WORD = "folder"


def is_folder(dataset: str) -> bool:
    """Whether a data set is spelled as a folder of images."""
    return dataset.partition(":")[0] == _WORD


def folder_of(dataset: str, data_dir: str | None) -> str | None:
    """The folder that holds a data set's images; None if none is named, or it is no folder."""
    if not is_folder(dataset):
        return None
    _, colon, folder = dataset.partition(":")
    return (folder or None) if colon else data_dir


def is_existing_folder(dataset: str) -> bool:
    """Whether `folder:DIR` names a directory that is there."""
    folder = folder_of(dataset, None)
    return bool(folder) and os.path.isdir(os.path.expanduser(folder or ""))


def title_of(dataset: str, data_dir: str | None) -> str:
    """What people call a data set: a folder by its own name, others as they are spelled.

    One that was passed from Python has no name of its own: it is called "arrays".

    >>> title_of("folder:/my/pets", None), title_of("folder:pets/test", None)
    ('pets', 'pets/test')
    """
    if is_arrays(dataset):
        return ARRAYS
    folder = folder_of(dataset, data_dir)
    if not folder:
        return dataset.removeprefix(f"{_WORD}:")
    path = Path(folder)
    if path.name in ("", ".."):  # as in "." and "..", which name no folder by themselves
        path = path.resolve()
    return "/".join(path.parts[-2:]) if path.name in ("train", "test") else path.name
