"""Records of a prepared TFDS data set, whose images are decoded lazily."""

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.errors import UserError, first_line
from magmax_jax.inputs.decode import decode_rgb
from magmax_jax.inputs.picture_formats import picture_formats

_CHUNK = 1024  # records fetched together when reading columns


@dataclass(frozen=True)
class Records:
    """Records of one data source, decoded when indexed: images[i] is uint8 (height, width, 3)."""

    name: str
    records: Any
    """TFDS's data source, which leaves images encoded and reopens its files after pickling."""
    rows: np.ndarray
    """int64 (n,): indices of the records used, in order."""
    folder: str = "its folder"
    """The folder of its files, for messages about damage."""
    transposed: bool = False
    """Rows and columns are swapped in the files; images[i] undoes this."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3); `least` as in `decode_rgb`."""
        row = int(self.rows[index])
        where = f"{self.name}: record {row}"
        with damage_reported(where, self.folder):
            # Pillow decodes greyscale and palettes to RGB, too, and TFDS would need OpenCV.
            image = Image.open(io.BytesIO(self.records[row]["image"]), formats=picture_formats())
        pixels = decode_rgb(image, where, least)
        return np.ascontiguousarray(pixels.transpose(1, 0, 2)) if self.transposed else pixels


@contextlib.contextmanager
def damage_reported(what: str, folder: str) -> Iterator[None]:
    """Turns any error while reading a prepared data set into one message.

    array_record and protobuf raise different errors depending on where a file is damaged.

    Raises:
      UserError: a file is damaged or missing.
    """
    try:
        yield
    except (UserError, ImportError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"{what} cannot be read ({reason}): a file is damaged or missing; remove {folder} and "
            "prepare it again"
        ) from None


def read_columns(records: Any, key: str | None) -> tuple[np.ndarray, list[str]]:
    """Every record's label and the text of its feature `key`; costs no more than reading the files.

    Returns:
      labels, int32 (n,); n strings, or none if `key` is None.
    """
    labels: list[int] = []
    texts: list[str] = []
    for start in range(0, len(records), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(records)))
        for record in records.__getitems__(list(rows)):
            labels.append(record["label"])
            if key is not None:
                text = record[key]
                texts.append(text.decode() if isinstance(text, bytes) else str(text))
    return np.array(labels, np.int32), texts


def encoded(builder: tfds.core.DatasetBuilder) -> dict[str, object]:
    """Decoders that leave images and masks encoded, because TFDS would need OpenCV."""
    features = builder.info.features.items()
    images = [name for name, feature in features if isinstance(feature, tfds.features.Image)]
    return dict.fromkeys(images, tfds.decode.SkipDecoding())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS's output on the terminal: we report what matters ourselves."""
    loggers = [logging.getLogger(name) for name in ("absl", "urllib3", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
