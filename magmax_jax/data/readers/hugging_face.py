"""A split of Hugging Face `datasets` as a source, without importing that package."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from magmax_jax.data.source import Shape, Source, one_shape
from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb, open_image, seen_shape

UNNAMED = (
    "; for integer labels use cast_column(NAME, ClassLabel(names=[...])): class_encode_column is "
    "for words, and sorts numbers as text, 10 before 2"
)
"""What to do if no column is a ClassLabel; `findings/datasets_class_encode_...` shows why."""

UNLABELLED = (
    ". The imagefolder of datasets leaves labels out where a class is named like a split (train, "
    "test, eval, ...), where there is one class, and where depths differ: as "
    "dataset='folder:DIR' such a folder is read whole"
)
"""Ends a sentence about labels that are missing; `findings/datasets_imagefolder_...` shows it."""


@dataclass(frozen=True)
class EncodedImages:
    """The image column of a `Dataset`, decoded when indexed: uint8 (height, width, 3).

    Like a folder's, they are upright and on white (see `decode_rgb`).
    """

    rows: Any
    """A `Dataset` of one column, whose values are {"bytes": ..., "path": ...}."""
    column: str
    where: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3); `least` as in `decode_rgb`."""
        with self._open(self.rows[int(index)][self.column], int(index)) as image:
            return decode_rgb(image, f"{self.where}: image {index}", least)

    def shapes(self) -> Iterator[Shape]:
        """(height, width) of each image, read from the headers."""
        index = 0
        for batch in self.rows.iter(batch_size=256):
            for stored in batch[self.column]:
                with self._open(stored, index) as image:
                    yield seen_shape(image)
                index += 1

    def _open(self, stored: dict[str, Any] | None, index: int) -> Image.Image:
        content, path = (stored or {}).get("bytes"), (stored or {}).get("path")
        if content is None and path is None:
            raise UserError(f"{self.where}: image {index} is missing: drop its row")
        file = str(path) if content is None else io.BytesIO(content)
        return open_image(file, f"{self.where}: image {index}")


def is_split(data: Any) -> bool:
    """Whether this is a `Dataset`, or a dictionary or stream of them."""
    return hasattr(data, "column_names") and hasattr(data, "cast_column")


def from_split(data: Any, where: str) -> Source:
    """A `datasets.Dataset` with one Image column and one ClassLabel column.

    Formats and transforms set on it are ignored. Image headers are read once at the start, up to
    the first image of a different size.

    Raises:
      UserError: it is a dictionary of splits, a stream, does not have exactly these columns, or an
        image has no label.
    """
    if isinstance(data.column_names, dict):
        names = ", ".join(data.column_names)
        raise UserError(f"{where}: it is a dictionary of splits: pass one of them ({names})")
    if not hasattr(data, "__len__"):
        raise UserError(f"{where}: it is a stream: load the split without streaming=True")
    images = [name for name, kind in data.features.items() if type(kind).__name__ == "Image"]
    labels = [name for name, kind in data.features.items() if hasattr(kind, "str2int")]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"{where}: {len(images)} of its columns are Image and {len(labels)} ClassLabel, among "
            f"{', '.join(data.column_names)}: keep one of each, see select_columns"
            + (UNNAMED + UNLABELLED if not labels else "")
        )
    (image,), (label,) = images, labels
    encoded = type(data.features[image])(decode=False)
    rows = data.with_format(None).select_columns([image]).cast_column(image, encoded)
    found = EncodedImages(rows, image, where)
    return Source(
        images=found,
        labels=_labels(data.with_format("numpy", columns=[label])[label][:], where),
        class_names=tuple(data.features[label].names),
        image_shape=one_shape(found.shapes()),
    )


def _labels(found: Any, where: str) -> np.ndarray:
    labels = np.asarray(found)
    # NumPy's integers have no None, so `datasets` gives floats.
    missing = np.flatnonzero(np.isnan(labels) if labels.dtype.kind == "f" else [])
    if missing.size:
        raise UserError(
            f"{where}: image {missing[0]} and {len(missing) - 1} more have no label: drop these "
            f"rows{UNLABELLED}"
        )
    return labels
