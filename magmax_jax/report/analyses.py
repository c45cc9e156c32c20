"""Analyses of runs: their titles, and the fields that a report needs of their records."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from magmax_jax.io.json_lines import NUMBER, NUMBER_OR_NONE, Record, has_fields

Types = tuple[type, ...]
_TEXT, _INT = (str,), (int,)


class Analysis(NamedTuple):
    """One analysis, a file of records in a run's `analysis/`.

    Attributes:
      title: in sentences.
      fields: of each record, with their types.
    """

    title: str
    fields: Mapping[str, Types]

    @property
    def is_sound(self) -> Callable[[Record], bool]:
        """Whether a record can be shown; takes the record."""
        return partial(_is_sound, self.fields)


_MEASURED: dict[str, Types] = {"protocol": _TEXT, "accuracy": NUMBER, "count": _INT}
ANALYSES = {
    "signs": Analysis(
        "sign conflicts",
        {"tasks": _INT, "kept": NUMBER, "part": _TEXT, "entries": _INT}
        | dict.fromkeys(("changed", "shared", "conflicts", "of_shared"), NUMBER_OR_NONE),
    ),
    "pruning": Analysis(
        "pruned task vectors",
        _MEASURED | {"of": _TEXT, "scale": NUMBER, "kept": NUMBER, "choice": _TEXT, "group": _TEXT},
    ),
    "provenance": Analysis(
        "provenance",
        dict.fromkeys(("rule", "task", "layer", "kind"), _TEXT)
        | {"entries": _INT, "supplied": _INT, "squared_norm": NUMBER},
    ),
    "similarity": Analysis(
        "cosines between task vectors", {"first": _TEXT, "second": _TEXT, "cosine": NUMBER_OR_NONE}
    ),
    "norms": Analysis("norms of task vectors", {"task": _TEXT, "norm": NUMBER}),
    "alignment": Analysis(
        "features compared",
        {"model": _TEXT, "scale": NUMBER_OR_NONE, "group": _TEXT, "cka": NUMBER_OR_NONE},
    ),
    "contribution": Analysis(
        "contributions of single tasks",
        _MEASURED
        | {"rule": _TEXT, "scale": NUMBER, "left_out": _TEXT, "group": _TEXT, "with_all": NUMBER},
    ),
    "transfer": Analysis(
        "transfer",
        _MEASURED
        | {"model": _TEXT, "scale": NUMBER_OR_NONE, "after_task": _INT, "data": _TEXT}
        | {"zero_shot": NUMBER},
    ),
    "overhead": Analysis(
        "costs",
        {"what": _TEXT, "seconds": NUMBER, "steps": NUMBER_OR_NONE}
        | {"bytes": NUMBER_OR_NONE, "state": NUMBER_OR_NONE},
    ),
}
"""By file name."""


def _is_sound(fields: Mapping[str, Types], record: Record) -> bool:
    """Whether a record has its fields, and only plain values."""
    plain = dict.fromkeys(record, (str, bool, *NUMBER_OR_NONE))
    return has_fields(record, fields) and has_fields(record, plain)
