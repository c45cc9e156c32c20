"""Class names for prompts if nothing is published: derived from folder names."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from magmax_jax.errors import ConfigError, some
from magmax_jax.registry import DATA_SETS

WORDNET_ID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"^(n\d{8}|\d+)[\s._:)-]+(?=[^\s._:)-])((?<=[\s_)])|(?=\D))")
"""Numbering that sorts folders: "001.Black_footed_Albatross", "1_cat", "02 - dog", "10_3d_printer",
"n02085620-Chihuahua"; but not the numbers in "3d_printer", "1.5_litres" or "10-19_years"."""
_BARE = re.compile(r"(class|label|category|id|c)?[\s_-]*\d+", re.IGNORECASE)
KEEP = "--scenario.names folder keeps them as they are"


class OwnNames(NamedTuple):
    """Class names for prompts, and a note on how they were derived.

    Attributes:
      names: one per class, in the given order.
      note: "" if names differ from the folders' only in underscores.
      bare: whether they are just numbers, with which prompts say little.
    """

    names: tuple[str, ...]
    note: str = ""
    bare: bool = False


def own_names(class_names: Sequence[str], dataset: str = "images") -> OwnNames:
    """Replaces WordNet ids by names from published data sets; strips numbers from other names.

    Leading numbers are left out if all classes have them, and if the remaining names are distinct.

    Args:
      class_names: of folders, or as a data set lists them.
      dataset: names the data in the message.

    Raises:
      ConfigError: a class is a WordNet id for which no table has a name.
    """
    if rests := _without_numbers(class_names):
        names = spaced(rests)
        found = _changes(class_names, names)
        return OwnNames(
            names, f"numbers before class names are left out of prompts ({found}); {KEEP}"
        )
    ids = [name for name in class_names if WORDNET_ID.fullmatch(name)]
    if ids:
        table, titles = _table(ids)
        if unnamed := [name for name in ids if name not in table]:
            raise ConfigError(
                f"{dataset}: no bundled table has a name for the WordNet {_ids(unnamed)}, and "
                "prompts made of ids mean nothing to a model: give the folders names, or set "
                "scenario.names=folder to keep the ids"
            )
        called = zip(class_names, spaced(class_names), strict=True)
        found = _changes(ids, [table[name] for name in ids])
        return OwnNames(
            tuple(table.get(name, other) for name, other in called),
            f"{len(ids):,} of {len(class_names):,} classes are named by WordNet ids; prompts use "
            f"their names from {' and '.join(titles)} ({found}); {KEEP}",
        )
    bare = all(_BARE.fullmatch(name) for name in class_names)
    return OwnNames(spaced(class_names), bare=bare)


def as_called(class_names: Sequence[str]) -> OwnNames:
    """Folder names with spaces: the names in runs from before `own_names` existed."""
    read = any(map(WORDNET_ID.fullmatch, class_names)) or _without_numbers(class_names)
    note = (
        f"prompts keep the names of the class folders ({some(spaced(class_names))}), because the "
        "run started with them; new runs do not"
    )
    return OwnNames(spaced(class_names), note if read else "")


def spaced(names: Sequence[str]) -> tuple[str, ...]:
    """The names with single spaces for underscores and slashes.

    >>> spaced(["golden_retriever", "/bar/outdoor"])
    ('golden retriever', 'bar outdoor')
    """
    return tuple(re.sub(r"[\s_/]+", " ", name).strip() for name in names)


def _without_numbers(class_names: Sequence[str]) -> list[str]:
    """Class names without leading numbers; [] if the numbers are part of the names."""
    rests = [_NUMBERED.sub("", name) for name in class_names]
    are_numbered = (
        len(rests) > 1
        and all(name != rest for name, rest in zip(class_names, rests, strict=True))
        and all(re.search(r"[^\W\d_]", rest) for rest in rests)
        and len({name.casefold() for name in spaced(rests)}) == len(rests)
    )
    return rests if are_numbered else []


def _table(ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Looks up names of ids, starting with the table that has most of them.

    Returns:
      id -> name, for those found, as in the prompts of the table's data set; and these data sets.
    """
    tables = []
    for title, row in DATA_SETS.items():
        if row.wordnet_ids:
            names = spaced(row.class_names) if row.naming == "cleaned" else row.class_names
            tables.append((title, dict(zip(row.wordnet_ids, names, strict=True))))
    tables.sort(key=lambda table: -sum(each in table[1] for each in ids))
    found: dict[str, str] = {}
    titles = []
    for title, table in tables:
        new = {each: table[each] for each in ids if each in table and each not in found}
        titles += [title] if new else []
        found |= new
    return found, titles


def _changes(before: Sequence[str], after: Sequence[str]) -> str:
    return some([f"{old} -> {new}" for old, new in zip(before, after, strict=True)])


def _ids(names: Sequence[str]) -> str:
    return f"{'id' if len(names) == 1 else 'ids'} {some(names, 5)}"
