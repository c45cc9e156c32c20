"""A TFDS builder for the German Traffic Sign Recognition Benchmark, which TFDS lacks.

Unlike TFDS's builders it prepares without TensorFlow. Importing this module enables
`tfds.builder("gtsrb")`; reading the prepared data does not need this module.
"""

import contextlib
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data.prepare.archives import damaged
from magmax_jax.errors import UserError

_FOLDER = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
_TRAIN, _TEST, _LABELS = (
    "GTSRB-Training_fixed.zip",
    "GTSRB_Final_Test_Images.zip",
    "GTSRB_Final_Test_GT.zip",
)
_MD5 = {
    _TRAIN: "513f3c79a4c5141765e10e952eaa2478",
    _TEST: "c7e4e6327067d32654124b0fe9e82185",
    _LABELS: "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
_CLASSES = 43


class Gtsrb(tfds.core.GeneratorBasedBuilder):
    """43 signs, whole pictures (not cropped to signs), 26,640 for training and 12,630 for testing.

    Training pictures are those of the competition's own training part (GTSRB-Training_fixed), as in
    torchvision; the later GTSRB_Final_Training_Images has 39,209.

    Attributes:
      any_archive: accept archives that are not bit-identical to the publishers'.
    """

    VERSION = tfds.core.Version("1.0.0")
    url_infos: dict[str, Any] = {}  # noqa: RUF012  (TFDS would look for its list of checksums in its own package)
    any_archive = False

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="German Traffic Sign Recognition Benchmark: single signs of 43 classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(i) for i in range(_CLASSES)]),
                    "filename": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://benchmark.ini.rub.de/",
        )

    @classmethod
    def urls(cls) -> tuple[str, ...]:
        """Addresses of the published archives."""
        return tuple(_FOLDER + name for name in _MD5)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = [Path(path) for path in dl_manager.download(list(self.urls()))]
        if not self.any_archive:
            for path, (name, md5) in zip(paths, _MD5.items(), strict=True):
                _check(path, name, md5)
        train, test, labels = paths
        return {"train": _training(train), "test": _testing(test, labels)}

    def _generate_examples(self) -> NoReturn:
        raise NotImplementedError  # the splits' generators are functions of this module


def _check(path: Path, name: str, md5: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise UserError(
            f"{path} is not the publishers' {name} (its md5 is {found}, not {md5}): remove it and "
            "fetch it again, or set repacked to accept it as it is"
        )


def _training(archive: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """GTSRB/Training/000NN/*.ppm; the folder's number is the class."""
    with _opened(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".ppm"))
        if not names or any("/Training/" not in name for name in names):
            raise UserError(
                f"{archive} contains no GTSRB/Training/*/*.ppm: it is a different archive"
            )
        for name in names:
            sign, file = name.split("/")[-2:]
            if not _is_class(sign):
                raise UserError(
                    f"{archive} holds {name}, which belongs to no class: it is a different archive"
                )
            yield (
                f"{sign}/{file}",
                {
                    "image": _png(opened.read(name)),
                    "label": int(sign),
                    "filename": f"{sign}/{file}",
                },
            )


def _testing(images: Path, labels: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """GTSRB/Final_Test/Images/*.ppm, and Filename;...;ClassId in another archive's table."""
    with _opened(labels) as opened:
        table = next((n for n in opened.namelist() if n.endswith("GT-final_test.csv")), None)
        if table is None:
            raise UserError(f"{labels} contains no GT-final_test.csv: it is a different archive")
        text = opened.read(table).decode(errors="replace")
    rows = csv.DictReader(io.StringIO(text), delimiter=";", skipinitialspace=True)
    with _opened(images) as opened:
        members = {n.split("/")[-1]: n for n in opened.namelist() if n.endswith(".ppm")}
        for row in rows:
            file, sign = row.get("Filename"), row.get("ClassId") or ""
            if not file or not _is_class(sign):
                raise UserError(
                    f"{labels}: line {rows.line_num} of {table} has no Filename and ClassId: it is "
                    "damaged or not the publishers'; fetch it again"
                )
            if file not in members:
                raise UserError(f"{images} lacks {file}, which {labels} lists: fetch both again")
            yield (
                file,
                {
                    "image": _png(opened.read(members[file])),
                    "label": int(sign),
                    "filename": file,
                },
            )


def _is_class(sign: str) -> bool:
    return sign.isdecimal() and int(sign) < _CLASSES


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; raises a UserError if it or a picture in it turns out to be damaged."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    # zipfile may take a flipped bit for an unknown compression or a password.
    except Exception as error:
        if not (damaged(error) or isinstance(error, (RuntimeError, Image.DecompressionBombError))):
            raise
        raise UserError(
            f"{archive} is damaged or not the publishers' ({error}): remove it and fetch it again"
        ) from None


def _png(ppm: bytes) -> bytes:
    """The same pixels in a third of the bytes."""
    buffer = io.BytesIO()
    # Pillow starts other programs for some formats.
    Image.open(io.BytesIO(ppm), formats=["PPM"]).save(buffer, "PNG")
    return buffer.getvalue()
