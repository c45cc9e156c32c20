"""Prepared data sets: array_record shards and the files beside them."""

import contextlib
import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data import load_source
from magmax_jax.data.prepare.prepare import Options, prepare
from magmax_jax.data.readers import label_cache
from tests.mutants import mutate
from tests.mutants.kind import Kind, in_text_or_bytes

SIZES = {"train": 6, "test": 4}


def _pixels(split: str, number: int) -> np.ndarray:
    return np.full((8, 9, 3), 10 * number + len(split), np.uint8)


class MutantPictures(tfds.core.GeneratorBasedBuilder):
    """A few pictures of three classes."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012  (TFDS would look for its list of checksums in its own package)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for number in range(SIZES[split]):
            buffer = io.BytesIO()
            Image.fromarray(_pixels(split, number)).save(buffer, "PNG")
            yield number, {"image": io.BytesIO(buffer.getvalue()), "label": number % 3}


OPTIONS = Options(verify=True)


def _make(folder: Path) -> None:
    builder = MutantPictures(data_dir=folder, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder.download_and_prepare()
    prepare("mutant_pictures", Options(str(folder)))


Read = dict[str, tuple[np.ndarray, tuple[str, ...], list[np.ndarray]]]


def _read(folder: Path) -> Read:
    label_cache._kept.clear()  # a mutant may have the time and size of the one before
    sources = {split: load_source("mutant_pictures", split, str(folder)) for split in SIZES}
    return {
        split: (source.labels, source.class_names, [source.images[i] for i in range(len(source))])
        for split, source in sources.items()
    }


def _as_prepared(folder: Path, found: Read) -> bool:
    """Whether labels and pixels are those that were prepared, in any order."""
    for split, size in SIZES.items():
        labels, _, images = found[split]
        expected = {(n % 3, _pixels(split, n).tobytes()) for n in range(size)}
        if {(int(k), x.tobytes()) for k, x in zip(labels, images, strict=True)} != expected:
            return False
    return True


def _are_valid(folder: Path, found: Read) -> bool:
    """Whether labels fit the class names, whatever the description of the data set says."""
    return all(
        labels.min() >= 0 and labels.max() < len(names) for labels, names, _ in found.values()
    )


def _verified(folder: Path) -> None:
    prepare("mutant_pictures", replace(OPTIONS, data_dir=str(folder)))


def _shard(data: bytes, draw: random.Random) -> bytes:
    return mutate.of_bytes(data, draw)


SHARDS, BESIDE = "*/*/*-of-*", "*/*/*[!0-9]"
KINDS = {
    "array_record": Kind(SHARDS, _make, _read, _shard, _as_prepared, cost=2, native=True),
    "array_record, beside": Kind(BESIDE, _make, _read, in_text_or_bytes, _are_valid, cost=2),
    "prepare, verified": Kind("*/*/*", _make, _verified, in_text_or_bytes, cost=2, native=True),
}
