"""What lies in a prepared data set: images per class, and a fingerprint that tells any change."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from magmax_jax.data.readers.tfds_records import encoded, read_columns
from magmax_jax.data.seeded_split import (
    SeededSplit,
    check_fingerprint,
    divide,
    fingerprint,
)
from magmax_jax.errors import UserError
from magmax_jax.io.atomic import write_text

RECORD = "magmax.json"
"""Beside the prepared files: what they held when they were looked at first."""

DIVISION = "division.json"
"""Beside them, too: the training and test images' files, where our seeded split divides them."""

_CHUNK = 512  # records read together


@dataclass(frozen=True)
class Contents:
    """One split as it is on disk."""

    images: int
    per_class: list[int]
    """Images of each class; one without a label counts in `images` only."""
    sha256: str
    """Over its records in order: label and encoded image."""


def examine(
    builder: tfds.core.DatasetBuilder, advance: Callable[[int], None] = lambda count: None
) -> dict[str, Contents]:
    """Reads every record of a prepared data set.

    Args:
      advance: called with the number of records read since the last call.

    Raises:
      UserError: a file is damaged or gone.
    """
    return {name: _examine_split(builder, name, advance) for name in builder.info.splits}


def _examine_split(
    builder: tfds.core.DatasetBuilder, name: str, advance: Callable[[int], None]
) -> Contents:
    counts = np.zeros(builder.info.features["label"].num_classes, np.int64)
    digest, images = hashlib.sha256(), builder.info.splits[name].num_examples
    try:
        records = builder.as_data_source(split=name, decoders=encoded(builder))
        if len(records) != images:
            raise IndexError(f"{len(records)} records instead of {images}")
        for start in range(0, images, _CHUNK):
            rows = list(range(start, min(start + _CHUNK, images)))
            for record in records.__getitems__(rows):
                label, image = int(record["label"]), record["image"]
                if label >= 0:
                    counts[label] += 1
                digest.update(f"{label} {len(image)} ".encode())
                digest.update(image)
            advance(len(rows))
    # What array_record and protobuf raise for damaged files differs by where the damage is.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{title(builder)}: its {name} split cannot be read ({reason}): a file is damaged; "
            f"{again(builder)}"
        ) from None
    return Contents(images, counts.tolist(), digest.hexdigest())


def compare(builder: tfds.core.DatasetBuilder, found: dict[str, Contents]) -> bool:
    """Compares with what was recorded; False where nothing was.

    Raises:
      UserError: a split is not what it was, or the record cannot be read.
    """
    path = Path(builder.data_dir) / RECORD
    if not path.exists():
        return False
    try:
        recorded = {k: Contents(**v) for k, v in json.loads(path.read_text())["splits"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{path} cannot be read: remove it to have it written anew") from None
    for name in sorted(recorded.keys() | found.keys()):
        before, now = recorded.get(name), found.get(name)
        if before == now:
            continue
        told = [
            f"{c.images:,} images, sha256 {c.sha256[:12]}" if c else "none" for c in (before, now)
        ]
        raise UserError(
            f"{title(builder)}: its {name} split is not what {path} recorded ({told[1]} instead "
            f"of {told[0]}): a file was changed or is damaged; {again(builder)}"
        )
    return True


def record(builder: tfds.core.DatasetBuilder, found: dict[str, Contents]) -> bool:
    """Writes the record beside the data; False where nothing can be written."""
    splits = {name: asdict(contents) for name, contents in found.items()}
    text = json.dumps({"data_set": builder.info.full_name, "splits": splits})
    return _write(Path(builder.data_dir) / RECORD, text)


def check_division(
    builder: tfds.core.DatasetBuilder, how: SeededSplit, split: str, unchanged: bool, write: bool
) -> None:
    """Checks a seeded division, and lists its parts' files beside the data for whoever wants them.

    Args:
      split: of TFDS, which is divided.
      unchanged: it holds what it did when it was recorded, so that a list of then is still true.
      write: the list, where it is missing and can be written.

    Raises:
      UserError: the test images are not those published.
    """
    path = Path(builder.data_dir) / DIVISION
    listed = _listed(path, how) if unchanged else None
    if listed is None:
        records = builder.as_data_source(split=split, decoders=encoded(builder))
        labels, files = read_columns(records, how.key)
        parts = divide(files, labels, how)
        listed = {name: sorted(files[i] for i in rows) for name, rows in parts.items()}
    else:
        write = False
    check_fingerprint(title(builder), listed["test"], how)
    if write:
        _write(path, json.dumps({"split": asdict(how), **listed}, indent=0))


def _listed(path: Path, how: SeededSplit) -> dict[str, list[str]] | None:
    """A division as it was written; None where that, or this division, was not."""
    try:
        written = json.loads(path.read_text())
        parts = {name: [str(file) for file in written[name]] for name in ("train", "test")}
        if written["split"] == asdict(how) and how.fingerprint in ("", fingerprint(parts["test"])):
            return parts
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _write(path: Path, text: str) -> bool:
    """Writes a file whole; returns False where the disk refuses."""
    try:
        write_text(path, text + "\n")
    except OSError:
        return False
    return True


def title(builder: tfds.core.DatasetBuilder) -> str:
    """The name that sentences give it: "eurosat/rgb"."""
    config = builder.builder_config_name
    return f"{builder.name}/{config}" if config else builder.name


def again(builder: tfds.core.DatasetBuilder) -> str:
    return f"remove {builder.data_dir} and prepare it again"
