"""TensorFlow Datasets as random-access sources, without TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from magmax_jax.data.catalogue import expand, facts_of
from magmax_jax.data.concat import join_domains
from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.data.published import wordnet_ids
from magmax_jax.data.readers.label_cache import columns
from magmax_jax.data.readers.tfds_builder import builder_of, info_damaged, prepare_command, why
from magmax_jax.data.readers.tfds_records import Records, damage_reported, encoded, quiet
from magmax_jax.data.seeded_split import check_fingerprint, divide
from magmax_jax.data.source import Source, Split, hold_out
from magmax_jax.errors import ConfigError, UserError, counted


def load_builder(dataset: str, split: Split, data_dir: str | None) -> Source:
    """A prepared TFDS data set with the features `image` and `label`.

    Splits, division and domains come from the data set's entry in `DATA_SETS`. For other builders
    "test" is the test split, else the validation split; a single split is divided by `hold_out`.

    Raises:
      UserError: TFDS has no such builder, it is not prepared as array_record, lacks features or
        splits, or does not match its entry in `DATA_SETS`.
    """
    names, data = expand(dataset)
    parts = [_load_one(name, data, split, data_dir) for name in names]
    if data is None or len(parts) == 1:
        return parts[0]
    return join_domains(parts, tuple(sorted(data.domain_names)))


def _load_one(name: str, data: DataSet | None, split: Split, data_dir: str | None) -> Source:
    builder = _prepared(name, data_dir)
    facts = data.tfds if data else None
    features, splits = builder.info.features, list(builder.info.splits)
    key = facts.split.key if facts and facts.split else None
    _check_features(name, features, key)
    part = _part(name, facts, split, splits)
    folder = str(builder.data_dir)
    with quiet(), damage_reported(f"{name}: its {part} split", folder):
        records = builder.as_data_source(split=part, decoders=encoded(builder))
        labels, files = columns(records, folder, part, key)
    labels, class_names = _compact(name, data, labels, features["label"].names)
    if np.any(labels < 0):
        raise UserError(
            f"{name}: its {part} split has images without a label, so it cannot be used"
        )
    if facts and facts.split:
        divided = divide(files, labels, facts.split)
        check_fingerprint(name, [files[i] for i in divided["test"]], facts.split)
        rows = divided[split]
    else:
        divide_it = data is None and len(splits) == 1
        rows = hold_out(labels, split) if divide_it else np.arange(len(labels))
    if not len(rows):
        raise UserError(f"{name}: its {part} split has no images for {split}; prepare it again")
    by_file = facts is not None and facts.domains == "file name"
    domain_names = tuple(sorted(data.domain_names)) if data and by_file else ()
    height, width, _ = features["image"].shape
    made = facts_of(name)  # whatever the /config
    turned = made is not None and made.transposed
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


def _check_features(name: str, features: Mapping[str, Any], key: str | None) -> None:
    for needed in filter(None, ("image", "label", key)):
        if needed not in features:
            found = ", ".join(features)
            also = f", or prepare it again if it has lost its {key}" if needed == key else ""
            raise UserError(
                f"{name} has the features {found}, but image and label are needed: choose a "
                f"classification data set{also}"
            )
    if not isinstance(features["label"], tfds.features.ClassLabel):
        raise UserError(
            f"{name}: its label is not a single class; choose a classification data set"
        )


def _part(name: str, facts: FromTfds | None, split: Split, splits: list[str]) -> str:
    """The TFDS split to read for `split`, or two joined by +."""
    if facts:
        wanted = [facts.train if split == "train" or facts.split else facts.test]
    elif len(splits) == 1:
        wanted = splits
    else:
        wanted = ["train"] if split == "train" else ["test", "validation"]
    part = next((each for each in wanted if set(each.split("+")) <= set(splits)), None)
    if part is None:
        needed = f" (it needs {wanted[0]}): prepare it again" if facts else ""
        raise UserError(
            f"{name} has the splits {', '.join(splits)}: none can be used as {split}{needed}"
        )
    return part


def _compact(
    name: str, data: DataSet | None, labels: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names; of WordNet ids only those with a published name, in that order."""
    named = wordnet_ids(name)
    if named and named.keys() <= set(names):
        place = {each: i for i, each in enumerate(names)}
        new = np.full(len(names), -1, np.int32)
        new[[place[each] for each in named]] = np.arange(len(named))
        labels, names = np.where(labels < 0, labels, new[labels]), tuple(named.values())
    if data and len(names) != data.classes:
        raise UserError(
            f"{name} has {counted(len(names), 'class')} where {data.name} has {data.classes}: it "
            "is a different data set; prepare it again"
        )
    return labels, tuple(names)


def _domains(name: str, files: list[str], domain_names: tuple[str, ...]) -> np.ndarray:
    """int32 (n,), domains of files named .../domain_number.jpg."""
    number = {domain: i for i, domain in enumerate(domain_names)}
    found = [file.split("/")[-1].rpartition("_")[0] for file in files]
    unknown = set(found) - set(number)
    if unknown:
        raise UserError(
            f"{name}: {files[found.index(min(unknown))]} is named after none of its domains "
            f"({', '.join(domain_names)}); prepare it again"
        )
    return np.array([number[domain] for domain in found], np.int32)


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        with quiet():
            builder = builder_of(name, data_dir)
            readable = builder.is_prepared() and {"array_record", "parquet"} & {
                kind.value for kind in builder.info.available_file_formats()
            }
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(
            f"there is no data set {name!r} ({why(name, error)}): choose a built-in one, "
            "folder:DIR, or a TFDS builder"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # protobuf and TFDS raise many kinds of errors for damaged files
        raise info_damaged(name, data_dir, error) from None
    if not readable:
        raise ConfigError(
            f"{name} is not prepared as array_record in {builder.data_dir}: set scenario.data_dir "
            "to the directory that holds it, or prepare it",
            command=prepare_command(name, data_dir),
        )
    return builder
