"""TensorFlow Datasets as sources, read at random and without TensorFlow."""

import contextlib
import io
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data.folders import decode_rgb
from magmax_jax.data.joining import join_domains
from magmax_jax.data.published import canonical, published_domains
from magmax_jax.data.sources import Source, Split, hold_out
from magmax_jax.errors import UserError

_CHUNK = 1024  # records fetched together while labels are read


@dataclass(frozen=True)
class Records:
    """Records of one data source, decoded when indexed: images[i] is uint8 (height, width, 3)."""

    name: str
    records: Any
    """TFDS's own data source, which leaves images encoded and reopens its files after pickling."""
    rows: np.ndarray
    """int64 (n,): which of the records, in order."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        row = int(self.rows[index])
        where = f"{self.name}: record {row}"
        # Pillow decodes greyscale and palettes to RGB alike, and TFDS would ask for OpenCV.
        try:
            image = Image.open(io.BytesIO(self.records[row]["image"]))
        except OSError as error:
            raise UserError(f"{where} is not a readable image ({error}); prepare it anew") from None
        return decode_rgb(image, where)


def load_builder(dataset: str, split: Split, data_dir: str | None) -> Source:
    """A prepared TFDS data set with the features `image` and `label`.

    "test" is the builder's test split, else its validation split; a builder with one split only is
    divided by `hold_out`. domainnet joins its domains, one TFDS config each.

    Raises:
      UserError: TFDS knows no such builder, it is not prepared as array_record, or lacks features.
    """
    name = canonical(dataset)
    if name != "domainnet":
        return _load_one(name, split, data_dir)
    domains = tuple(sorted(published_domains(name)))
    parts = [_load_one(f"{name}/{domain}", split, data_dir) for domain in domains]
    return join_domains(parts, domains)


def _load_one(name: str, split: Split, data_dir: str | None) -> Source:
    builder = _prepared(name, data_dir)
    features = builder.info.features
    for key in ("image", "label"):
        if key not in features:
            found = ", ".join(features)
            raise UserError(f"{name} has the features {found}: a scenario needs image and label")
    if not isinstance(features["label"], tfds.features.ClassLabel):
        raise UserError(f"{name}: its label is no single class; choose a classification data set")
    splits = list(builder.info.splits)
    wanted = [split] if split == "train" else ["test", "validation"]
    part = splits[0] if len(splits) == 1 else next((s for s in wanted if s in splits), None)
    if part is None:
        raise UserError(f"{name} has the splits {', '.join(splits)}: none serves as {split}")
    with _quiet():
        records = builder.as_data_source(split=part, decoders={"image": tfds.decode.SkipDecoding()})
    labels = _read_labels(records)
    if labels.min() < 0:
        raise UserError(f"{name}: its {part} split has images without a label; it cannot serve")
    rows = hold_out(labels, split) if len(splits) == 1 else np.arange(len(labels))
    height, width, _ = features["image"].shape
    return Source(
        images=Records(name, records, rows),
        labels=labels[rows],
        class_names=tuple(features["label"].names),
        image_shape=(height, width) if height and width else None,
    )


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=data_dir)
            readable = builder.is_prepared() and {"array_record", "parquet"} & {
                kind.value for kind in builder.info.available_file_formats()
            }
    except (ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"dataset {name!r}: neither digits, folder nor a TFDS builder ({reason})"
        ) from None
    if not readable:
        raise UserError(
            f"{name} is not prepared as array_record in {builder.data_dir}: once, with TensorFlow "
            f"installed, run tfds.builder({name!r}, data_dir={data_dir!r}, "
            "file_format='array_record').download_and_prepare(), or pass the data_dir that holds it"
        )
    return builder


def _read_labels(records: Any) -> np.ndarray:
    """int32 (n,); the images stay encoded, so this costs no more than reading the files."""
    labels: list[int] = []
    for start in range(0, len(records), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(records)))
        labels += [record["label"] for record in records.__getitems__(list(rows))]
    return np.array(labels, np.int32)


@contextlib.contextmanager
def _quiet():
    """Keeps TFDS's warnings about unprepared folders off the terminal: our own error tells."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
