"""The page of data sets: sizes, epochs, prompts, and how each is obtained."""

import sys
from collections.abc import Iterable

from magmax_jax.data import DataSet
from magmax_jax.data.catalogue import LISTS
from magmax_jax.registry import DATA_SETS
from tools.docs.markdown import prose, render, table


def page() -> str:
    rows = [_row(name, data) for name, data in DATA_SETS.items()]
    head = ("name", "what it is", "classes", "training images", "test images", "epochs", "prompts",
            "also", "read from")  # fmt: skip
    lists = [
        (f"`{name}`", ", ".join(f"`{each}`" for each in names)) for name, names in LISTS.items()
    ]
    return render(
        "datasets.md",
        table=table(head, rows),
        lists=table(("list", "data sets and epochs, in order"), lists),
        by_hand="\n".join(_by_hand(DATA_SETS.items())),
    )


def _row(name: str, data: DataSet) -> tuple[str, ...]:
    source = f"TFDS, `{data.tfds.builder}`" if data.tfds else "scikit-learn"
    return (
        f"`{name}`",
        prose(_title(name)),
        str(data.classes),
        f"{data.train_size:,}",
        f"{data.test_size:,}",
        str(data.epochs),
        str(len(data.templates)),
        ", ".join(_also(data)),
        source,
    )


def _title(name: str) -> str:
    """The first line of the module that defines the data set."""
    text = sys.modules[f"magmax_jax.data.datasets.{name}"].__doc__ or ""
    return text.split("\n", 1)[0].removesuffix(".")


def _also(data: DataSet) -> Iterable[str]:
    if data.domain_names:
        yield f"{len(data.domain_names)} domains"
    if data.class_order:
        yield "published order"
    if data.tfds and data.tfds.split:
        yield "own split"


def _by_hand(data_sets: Iterable[tuple[str, DataSet]]) -> Iterable[str]:
    for name, data in data_sets:
        if data.tfds and (data.tfds.by_hand or data.tfds.links):
            files = ", ".join(f"`{file}`" for file in data.tfds.by_hand)
            said = "; ".join(filter(None, (files, prose(data.tfds.links))))
            yield f"- `{name}`: {said}."
