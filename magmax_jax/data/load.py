"""Data sets by name, each through its reader."""

from magmax_jax.data.source import Source, Split


def load_source(dataset: str, split: Split, data_dir: str | None = None) -> Source:
    """Reads the `split` of a data set.

    Args:
      dataset: "digits", "digits_styles", "folder", "folder:DIR" for a folder beside other data
        sets, a name of `catalogue`, or any TFDS builder.
      data_dir: where prepared TFDS data sets lie (TFDS's own place by default), or the folder.

    Raises:
      UserError: there is no such data set, it is not where `data_dir` says, or it cannot be read.
    """
    # Each reader is imported when asked for: TFDS and scikit-learn are slow to start.
    kind, colon, folder = dataset.partition(":")
    if kind == "folder":
        from magmax_jax.data.readers.folder import load_folder

        return load_folder((folder or None) if colon else data_dir, split)
    if dataset in ("digits", "digits_styles"):
        from magmax_jax.data.readers import digits

        return digits.load_digits(split) if dataset == "digits" else digits.load_styles(split)
    from magmax_jax.data.readers.tfds import load_builder

    return load_builder(dataset, split, data_dir)
