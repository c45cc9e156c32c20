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
_START: Mapping[str, tuple[type, ...]] = {
    "time": (str,), "command": (str,), "devices": (str,), "processes": (int,),
    "versions": (dict,), "changed": (list,),
}  # fmt: skip
"""Fields of a start, each missing from some earlier versions."""
_ENTRY: Mapping[str, tuple[type, ...]] = {"dataset": (str,), "kind": (str,), "digest": (str,)}
_PLACE: Mapping[str, tuple[type, ...]] = {"path": (str,), "files": (int,), "bytes": (int,)}
"""Fields of an entry of the data, the latter if it has files."""


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
    if not all(map(_is_start, found.get("starts", []))) or not _is_inputs(found.get("inputs", {})):
        return False
    if any(type(c) is not int for task in found.get("tasks", []) for c in task["classes"]):
        return False
    names = [found.get("classes", []), found.get("domains", []), [found.get("scenario", "")]]
    texts = all(map(_is_texts, names))
    published = found.get("published_scales", {})
    scales = isinstance(published, dict) and has_fields(published, dict.fromkeys(published, NUMBER))
    return texts and scales and type(found.get("models", 1)) is int


def _is_start(start: dict[str, Any]) -> bool:
    known = {name: types for name, types in _START.items() if name in start}
    versions = start.get("versions", {})
    return (
        has_fields(start, known)
        and has_fields(versions, dict.fromkeys(versions, (str,)))
        and _is_texts(start.get("changed", []))
    )


def _is_inputs(inputs: Any) -> bool:
    """Whether this is what `recorded.as_json` made."""
    if not isinstance(inputs, dict):
        return False
    models, data, paths = (inputs.get(name, {}) for name in ("models", "data", "paths"))
    if not (isinstance(models, dict) and isinstance(data or [], list) and isinstance(paths, dict)):
        return False
    return (
        all(map(_is_model, models.values()))
        and all(map(_is_entry, data or []))
        and all(_is_texts(each) and len(each) == 2 for each in paths.values())
    )


def _is_model(model: Any) -> bool:
    """Whether this has a path, and files with their digests by part."""
    if not isinstance(model, dict) or type(model.get("path")) is not str:
        return False
    parts = (part for name, part in model.items() if name != "path")
    return all(isinstance(p, dict) and has_fields(p, dict.fromkeys(p, (str,))) for p in parts)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not has_fields(entry, _ENTRY):
        return False
    return not _PLACE.keys() & entry.keys() or has_fields(entry, _PLACE)


def _is_texts(found: Any) -> bool:
    return isinstance(found, list) and all(type(each) is str for each in found)
