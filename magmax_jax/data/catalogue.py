"""Looks up data sets by users' names and TFDS's names."""

import re

from magmax_jax.data.data_set import DEFAULT_EPOCHS, DataSet, FromTfds
from magmax_jax.errors import UserError
from magmax_jax.registry import DATA_SETS

EIGHT = (
    "cars@35", "mnist@5", "eurosat@12", "svhn@4", "resisc45@15", "sun397@14", "dtd@75", "gtsrb@11"
)  # fmt: skip
"""The paper's eight data sets, in its order, as NAME@EPOCHS."""

FOURTEEN = (*EIGHT, "stl10@60", "pets@82", "flowers102@147", "cifar100@6", "pcam@1")
"""The next six of Wang et al., in their order, without FER2013, which TFDS lacks."""

TWENTY = (*FOURTEEN, "cifar10@6", "food101@4", "fashion_mnist@5", "emnist@2", "kmnist@5")
"""Their next six, in their order, without Rendered SST-2, which TFDS lacks."""

LISTS = {"eight": EIGHT, "fourteen": FOURTEEN, "twenty": TWENTY}


def find(dataset: str) -> DataSet | None:
    """A data set by its own name or its TFDS builder's; a :version is ignored.

    A /config that is not the data set's own is a different data set, unless configs are domains.
    """
    known, config = _of_name(dataset), config_of(dataset)
    if known is None or not config:
        return known
    own = known.tfds and (
        known.tfds.domains == "configs" or config == config_of(known.tfds.builder)
    )
    return known if own else None


def facts_of(builder: str) -> FromTfds | None:
    """The facts about a TFDS builder, whatever its /config and :version."""
    made = _made_by(builder)
    return made.tfds if made else None


def builder_of(dataset: str) -> str:
    """TFDS's name: "cub200" -> "caltech_birds2011", "eurosat" -> "eurosat/rgb".

    A given /config or :version is kept, and unknown names are returned unchanged.
    """
    known, rest = _of_name(dataset), "".join(re.split("([/:])", dataset)[1:])
    if known is None or known.tfds is None:
        return dataset
    builder = known.tfds.builder
    return (_base(builder) if rest.startswith("/") else builder) + rest


def expand(dataset: str) -> tuple[tuple[str, ...], DataSet | None]:
    """A data set's names in TFDS, including a :version, and its entry in `DATA_SETS`.

    Returns:
      one builder, or one for each domain in alphabetical order if configs are domains and none is
      named; None for a builder or a config that is not in `DATA_SETS`.
    """
    data, name = find(dataset), builder_of(dataset)
    if data is None or data.tfds is None or data.tfds.domains != "configs" or "/" in name:
        return (name,), data
    base, colon, version = name.partition(":")
    return tuple(f"{base}/{domain}{colon}{version}" for domain in sorted(data.domain_names)), data


def epochs(dataset: str) -> int:
    """The published number of epochs per task, or else `DEFAULT_EPOCHS`."""
    known = find(dataset)
    return known.epochs if known else DEFAULT_EPOCHS


def prepared_names() -> list[str]:
    """Data sets that must be prepared before reading."""
    return [name for name, row in DATA_SETS.items() if row.tfds]


def require_preparable(dataset: str) -> None:
    """Raises a UserError for a data set that needs no preparation."""
    if dataset in DATA_SETS and DATA_SETS[dataset].tfds is None:
        raise UserError(f"{dataset} needs no preparation: it is read directly")


def config_of(builder: str) -> str:
    """The part after the first slash, without a version."""
    return builder.split(":")[0].partition("/")[2]


def _of_name(dataset: str) -> DataSet | None:
    """The data set with that name, or with that builder in any /config and :version."""
    name = _base(dataset)
    return DATA_SETS[name] if name in DATA_SETS else _made_by(name)


def _made_by(builder: str) -> DataSet | None:
    name = _base(builder)
    rows = DATA_SETS.values()
    return next((row for row in rows if row.tfds and _base(row.tfds.builder) == name), None)


def _base(builder: str) -> str:
    return re.split("[/:]", builder)[0]
