"""The fields of `about.json` that its readers need; `runs.manifest` writes it."""

from collections.abc import Mapping
from typing import Any

from magmax_jax.io.json_lines import NUMBER, has_fields

_RECORDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "tasks": {"name": (str,), "classes": (list,), "train": (int,), "test": (int,)},
    "learned": {"name": (str,), "steps": (int,), "images": (int,)},
    "starts": {},
}
"""Entries that are lists of records, with each record's fields."""


def is_about(found: Any) -> bool:
    """Whether this is the content of an `about.json`, of this version or of an earlier one with
    fewer fields."""
    if not isinstance(found, dict):
        return False
    for name, fields in _RECORDS.items():
        records = found.get(name, [])
        if not isinstance(records, list) or not all(
            isinstance(record, dict) and has_fields(record, fields) for record in records
        ):
            return False
    names = [found.get("classes", []), found.get("domains", [])]
    texts = all(isinstance(each, list) and all(type(x) is str for x in each) for each in names)
    published = found.get("published_scales", {})
    scales = isinstance(published, dict) and has_fields(published, dict.fromkeys(published, NUMBER))
    return texts and scales and type(found.get("models", 1)) is int
