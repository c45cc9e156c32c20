"""TensorFlow Datasets as sources, read at random and without TensorFlow."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format

from magmax_jax.data.concat import join_domains
from magmax_jax.data.datasets.catalogue import DataSet, find, is_transposed
from magmax_jax.data.datasets.seeded_split import check_fingerprint, divide
from magmax_jax.data.published import expand, published_domains, wordnet_ids
from magmax_jax.data.readers.label_cache import columns
from magmax_jax.data.readers.tfds_records import Records, damage_told, encoded, quiet
from magmax_jax.data.source import Source, Split, hold_out
from magmax_jax.errors import UserError


def load_builder(dataset: str, split: Split, data_dir: str | None) -> Source:
    """A prepared TFDS data set with the features `image` and `label`.

    What `catalogue` says of it holds: splits, division, domains. Of other builders "test" is the
    test split, else the validation split; one with a single split is divided by `hold_out`.

    Raises:
      UserError: TFDS knows no such builder, it is not prepared as array_record, lacks features or
        splits, or is not the data set that `catalogue` describes.
    """
    names, data = expand(dataset)
    parts = [_load_one(name, data, split, data_dir) for name in names]
    if len(parts) == 1:
        return parts[0]
    return join_domains(parts, tuple(sorted(published_domains(dataset))))


def _load_one(name: str, data: DataSet | None, split: Split, data_dir: str | None) -> Source:
    builder = _prepared(name, data_dir)
    features, splits = builder.info.features, list(builder.info.splits)
    key = data.split.key if data and data.split else None
    _check_features(name, features, key)
    part = _part(name, data, split, splits)
    folder = str(builder.data_dir)
    with quiet(), damage_told(f"{name}: its {part} split", folder):
        records = builder.as_data_source(split=part, decoders=encoded(builder))
        labels, files = columns(records, folder, part, key)
    labels, class_names = _compact(name, data, labels, features["label"].names)
    if labels.min() < 0:
        raise UserError(f"{name}: its {part} split has images without a label; it cannot serve")
    if data and data.split:
        divided = divide(files, labels, data.split)
        check_fingerprint(name, [files[i] for i in divided["test"]], data.split)
        rows = divided[split]
    else:
        divide_it = data is None and len(splits) == 1
        rows = hold_out(labels, split) if divide_it else np.arange(len(labels))
    by_file = data is not None and data.domains == "file name"
    domain_names = tuple(sorted(published_domains(name))) if by_file else ()
    height, width, _ = features["image"].shape
    turned = is_transposed(name)
    if turned:
        height, width = width, height
    return Source(
        images=Records(name, records, rows, folder, turned),
        labels=labels[rows],
        class_names=class_names,
        domains=_domains(name, [files[i] for i in rows], domain_names) if by_file else None,
        domain_names=domain_names,
        image_shape=(height, width) if height and width else None,
    )


def _check_features(name: str, features: Sequence[str], key: str | None) -> None:
    for needed in filter(None, ("image", "label", key)):
        if needed not in features:
            found = ", ".join(features)
            also = f"; it is divided by {key}: prepare it anew" if needed == key else ""
            raise UserError(
                f"{name} has the features {found}: a scenario needs image and label{also}"
            )
    if not isinstance(features["label"], tfds.features.ClassLabel):
        raise UserError(f"{name}: its label is no single class; choose a classification data set")


def _part(name: str, data: DataSet | None, split: Split, splits: list[str]) -> str:
    """The TFDS split, or two joined by +, to read for `split`."""
    if data:
        wanted = [data.train if split == "train" or data.split else data.test]
    elif len(splits) == 1:
        wanted = splits
    else:
        wanted = ["train"] if split == "train" else ["test", "validation"]
    part = next((each for each in wanted if set(each.split("+")) <= set(splits)), None)
    if part is None:
        needed = f" (it needs {wanted[0]}): prepare it anew" if data else ""
        raise UserError(
            f"{name} has the splits {', '.join(splits)}: none serves as {split}{needed}"
        )
    return part


def _compact(
    name: str, data: DataSet | None, labels: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names, of WordNet ids those with a published name alone, in its order."""
    named = wordnet_ids(name)
    if named and named.keys() <= set(names):
        place = {each: i for i, each in enumerate(names)}
        new = np.full(len(names), -1, np.int32)
        new[[place[each] for each in named]] = np.arange(len(named))
        labels, names = np.where(labels < 0, labels, new[labels]), named.values()
    if data and len(names) != data.classes:
        raise UserError(
            f"{name} has {len(names)} classes where {data.name} has {data.classes}: it is another "
            "data set; prepare it anew"
        )
    return labels, tuple(names)


def _domains(name: str, files: list[str], domain_names: tuple[str, ...]) -> np.ndarray:
    """int32 (n,), of files called .../domain_number.jpg."""
    number = {domain: i for i, domain in enumerate(domain_names)}
    found = [file.split("/")[-1].rpartition("_")[0] for file in files]
    unknown = set(found) - set(number)
    if unknown:
        raise UserError(
            f"{name}: {files[found.index(min(unknown))]} is called after none of its domains "
            f"({', '.join(domain_names)}); prepare it anew"
        )
    return np.array([number[domain] for domain in found], np.int32)


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        if name.split(":")[0] == "gtsrb":  # ours: TFDS knows it once it is imported
            from magmax_jax.data.readers import gtsrb  # noqa: F401
        with quiet():
            builder = builder_of(name, data_dir)
            readable = builder.is_prepared() and {"array_record", "parquet"} & {
                kind.value for kind in builder.info.available_file_formats()
            }
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(
            f"dataset {name!r}: neither digits, folder nor a TFDS builder ({why(name, error)})"
        ) from None
    except json_format.ParseError as error:
        raise UserError(info_damaged(name, data_dir, error)) from None
    if not readable:
        known, version = find(name), "".join(name.partition(":")[1:])
        ours = known.name + version if known else name
        place = f" --data-dir {data_dir}" if data_dir else ""
        raise UserError(
            f"{name} is not prepared as array_record in {builder.data_dir}: run once "
            f"python -m experiments.prepare {ours}{place}, or pass the "
            "data_dir that holds it"
        )
    return builder


def builder_of(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """`tfds.builder`, without what TFDS asks a bucket about a data set that is not prepared.

    It has stopped asking, but leaves an empty folder in the temporary directory each time.
    """
    info = tfds.core.DatasetInfo
    asking, info.initialize_from_bucket = info.initialize_from_bucket, lambda self: None
    try:
        return tfds.builder(name, data_dir=data_dir)
    finally:
        info.initialize_from_bucket = asking


def why(name: str, error: Exception) -> str:
    """The reason, in one line, for which `tfds.builder(name)` raised an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    base, _, version = name.partition(":")
    base = base.split("/")[0]
    if version and not re.match(r"(\d+|\*)(\.(\d+|\*)){2}", version):
        return f"{version!r} is no version, as 1.0.0 is"
    if any("BuilderConfig" in line for line in lines):  # it names those that are spelled alike only
        configs = tfds.builder_cls(base).builder_configs
        return f"{base} has {'the configs ' + ', '.join(configs) if configs else 'no configs'}"
    # What comes first is how the builder was called.
    return re.sub('^Failed to construct .*}": ', "", lines[0]) if lines else type(error).__name__


def info_damaged(name: str, data_dir: str | None, error: Exception) -> str:
    """The sentence for a prepared data set whose dataset_info.json is no JSON."""
    folder = Path(data_dir or tfds.core.constants.DATA_PATH).expanduser() / name.split(":")[0]
    return (
        f"{name}: its dataset_info.json is damaged ({why(name, error)}): remove {folder} and "
        "prepare it again with python -m experiments.prepare"
    )
