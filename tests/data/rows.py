"""Patches rows of `DATA_SETS` for a test, as `monkeypatch.setitem` patches a dictionary."""

from dataclasses import replace
from typing import Any

from magmax_jax.data import DataSet
from magmax_jax.registry import DATA_SETS


class Rows:
    """`DATA_SETS` with the methods that `monkeypatch.setitem` uses."""

    def __getitem__(self, name: str) -> DataSet:
        return DATA_SETS[name]

    def get(self, name: str, default: Any) -> Any:
        if name not in DATA_SETS:
            return default
        return DATA_SETS[name]

    def __setitem__(self, name: str, row: DataSet) -> None:
        change = DATA_SETS.replace if name in DATA_SETS else DATA_SETS.register
        change(name, row)

    def __delitem__(self, name: str) -> None:
        DATA_SETS.unregister(name)

    def __iter__(self):
        return iter(DATA_SETS)


ROWS = Rows()


def with_tfds(row: DataSet, **changes: Any) -> DataSet:
    """The row with changed TFDS facts."""
    return replace(row, tfds=replace(row.tfds, **changes))


def prepared_rows() -> list[DataSet]:
    """Rows of the data sets that TFDS prepares."""
    return [row for row in DATA_SETS.values() if row.tfds]
