"""Loads data sets by name, each with its reader."""

import os
from pathlib import Path

from magmax_jax.data.array_name import is_arrays, must_be_passed
from magmax_jax.data.folder_name import folder_of, is_folder
from magmax_jax.data.source import Source, Split
from magmax_jax.errors import UserError
from magmax_jax.registry import DATA_SETS


def load_source(dataset: str, split: Split, data_dir: str | None = None) -> Source:
    """Reads the `split` of a data set.

    Args:
      dataset: a name in `DATA_SETS`, "folder", "folder:DIR" for a folder among other data sets, or
        any TFDS builder.
      data_dir: the directory of prepared TFDS data sets (TFDS's own by default), or the folder.

    Raises:
      UserError: there is no such data set, it is not in `data_dir`, or it cannot be read.
    """
    if dataset in DATA_SETS and (read := DATA_SETS[dataset].read):
        return read(split, data_dir)
    if is_arrays(dataset):
        raise must_be_passed(dataset)
    # Imported lazily: TFDS is slow to import.
    if is_folder(dataset):
        from magmax_jax.data.readers.folder import load_folder

        return load_folder(folder_of(dataset, data_dir), split)
    from magmax_jax.data.readers.tfds import load_builder

    try:
        return load_builder(dataset, split, data_dir)
    except UserError:
        if not _is_directory_of_images(dataset):
            raise
    raise UserError(f"{dataset} is a directory, not the name of a data set: write folder:{dataset}")


def load_test_images(dataset: str, data_dir: str | None = None) -> Source:
    """A data set's test images, to evaluate a model that never saw it.

    For a folder that has neither train/ nor test/, these are all its images.

    Raises:
      UserError: as `load_source` does.
    """
    if not is_folder(dataset):
        return load_source(dataset, "test", data_dir)
    from magmax_jax.data.readers import folder

    return folder.load_test_images(folder_of(dataset, data_dir))


def is_undivided(dataset: str, data_dir: str | None = None) -> bool:
    """Whether a data set is a folder of images that has neither train/ nor test/."""
    where = folder_of(dataset, data_dir)
    if where is None:
        return False
    from magmax_jax.data.readers import folder

    return folder.is_undivided(Path(where).expanduser())


def is_folder_of_images(path: str) -> bool:
    """Whether a path is a directory of images, in any layout, and not a model."""
    from magmax_jax.data.readers import folder

    # Path would take "" for the current directory.
    return bool(path) and folder.holds_images(Path(path).expanduser())


def _is_directory_of_images(dataset: str) -> bool:
    """Whether a name means a folder; one without a slash may also be a data set's name."""
    is_directory = Path(dataset).expanduser().is_dir()
    return is_directory and (os.sep in dataset or is_folder_of_images(dataset))
