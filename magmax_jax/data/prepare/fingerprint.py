"""Contents of a prepared data set: images per class, and a fingerprint that detects any change."""

import errno
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
from magmax_jax.errors import UserError, first_line
from magmax_jax.io.atomic import write_text
from magmax_jax.io.json_lines import has_fields

RECORD = "magmax.json"
"""Next to the prepared files: their contents when they were first read."""

DIVISION = "division.json"
"""Also next to them: the files of the training and test images, if our seeded split is used."""

_OTHERS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Why a directory that users share cannot be written."""

_FIELDS = {"images": (int,), "per_class": (list,), "sha256": (str,)}
"""Of `Contents`, as JSON has them."""

_CHUNK = 512  # records read together


@dataclass(frozen=True)
class Contents:
    """The contents of one split on disk."""

    images: int
    per_class: list[int]
    """Images of each class; images without a label count only in `images`."""
    sha256: str
    """Over its records in order: label and encoded image."""


def examine(
    builder: tfds.core.DatasetBuilder, advance: Callable[[int], None] = lambda count: None
) -> dict[str, Contents]:
    """Reads every record of a prepared data set.

    Args:
      advance: called with the number of records read since the last call.

    Raises:
      UserError: a file is damaged or missing.
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
    # array_record and protobuf raise different errors depending on where a file is damaged.
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"{title(builder)}: its {name} split cannot be read ({reason}): a file is damaged; "
            f"{again(builder)}"
        ) from None
    return Contents(images, counts.tolist(), digest.hexdigest())


def compare(builder: tfds.core.DatasetBuilder, found: dict[str, Contents]) -> bool:
    """Compares with the record; False if there is none.

    Raises:
      UserError: a split has changed, or the record cannot be read.
    """
    path = Path(builder.data_dir) / RECORD
    if not path.exists():
        return False
    try:
        splits = json.loads(path.read_text())["splits"]
        recorded = {name: Contents(**contents) for name, contents in splits.items()}
        sound = all(has_fields(contents, _FIELDS) for contents in splits.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} cannot be read: remove it, and it will be written again")
    for name in sorted(recorded.keys() | found.keys()):
        before, now = recorded.get(name), found.get(name)
        if before == now:
            continue
        texts = [
            f"{c.images:,} images, sha256 {c.sha256[:12]}" if c else "none" for c in (before, now)
        ]
        raise UserError(
            f"{title(builder)}: its {name} split is not what {path} recorded ({texts[1]} instead "
            f"of {texts[0]}): a file was changed or is damaged; {again(builder)}"
        )
    return True


def record(builder: tfds.core.DatasetBuilder, found: dict[str, Contents]) -> bool:
    """Writes the record next to the data; False in a directory of another user.

    Raises:
      UserError: the disk is full, or fails.
    """
    splits = {name: asdict(contents) for name, contents in found.items()}
    text = json.dumps({"data_set": builder.info.full_name, "splits": splits})
    return _write(Path(builder.data_dir) / RECORD, text)


def check_division(
    builder: tfds.core.DatasetBuilder, how: SeededSplit, split: str, unchanged: bool, write: bool
) -> None:
    """Checks a seeded division, and lists its parts' files next to the data, for users.

    Args:
      split: TFDS split that is divided.
      unchanged: the data is as recorded, so an existing list is still valid.
      write: whether to write the list if it is missing and can be written.

    Raises:
      UserError: the test images are not those published, or the disk is full, or fails.
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
    """A division as it was written; None if none was, or a different one."""
    try:
        written = json.loads(path.read_text())
        parts = {name: [str(file) for file in written[name]] for name in ("train", "test")}
        if written["split"] == asdict(how) and how.fingerprint in ("", fingerprint(parts["test"])):
            return parts
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _write(path: Path, text: str) -> bool:
    """Writes a file atomically; returns False if the directory is not this user's to write to.

    Raises:
      UserError: the disk is full, or fails.
    """
    try:
        write_text(path, text + "\n")
    except OSError as error:
        if error.errno in _OTHERS:
            return False
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make space, or repair the disk, and run "
            "the same command again, which continues from here"
        ) from None
    return True


def title(builder: tfds.core.DatasetBuilder) -> str:
    """A builder's name in messages: "eurosat/rgb"."""
    config = builder.builder_config_name
    return f"{builder.name}/{config}" if config else builder.name


def again(builder: tfds.core.DatasetBuilder) -> str:
    return f"remove {builder.data_dir} and prepare it again"
