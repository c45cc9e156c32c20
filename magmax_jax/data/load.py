"""Data sets by name, each through its reader."""

from magmax_jax.data.array_name import is_arrays, must_be_passed
from magmax_jax.data.folder_name import folder_of, is_folder
from magmax_jax.data.source import Source, Split
from magmax_jax.registry import DATA_SETS


def load_source(dataset: str, split: Split, data_dir: str | None = None) -> Source:
    """Reads the `split` of a data set.

    Args:
      dataset: a name in `DATA_SETS`, "folder", "folder:DIR" for a folder beside other data sets, or
        any TFDS builder.
      data_dir: the directory of prepared TFDS data sets (TFDS's own by default), or the folder.

    Raises:
      UserError: there is no such data set, it is not in `data_dir`, or it cannot be read.
    """
    if dataset in DATA_SETS and (read := DATA_SETS[dataset].read):
        return read(split, data_dir)
    if is_arrays(dataset):
        raise must_be_passed(dataset)
    # Imported when needed: TFDS is slow to start.
    if is_folder(dataset):
        from magmax_jax.data.readers.folder import load_folder

        return load_folder(folder_of(dataset, data_dir), split)
    from magmax_jax.data.readers.tfds import load_builder

    return load_builder(dataset, split, data_dir)
