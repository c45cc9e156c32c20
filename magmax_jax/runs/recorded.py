"""Compares theta_0 and the data, as a run recorded them in `about.json`, with the present ones."""

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from magmax_jax.config import ExperimentConfig
from magmax_jax.data.files import Place, Sizes, difference
from magmax_jax.errors import UserError, counted, some
from magmax_jax.io.atomic import new_file
from magmax_jax.io.model_files import changed_parts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import DATA_FILES
from magmax_jax.runs.fingerprint import (
    MODELS,
    PIXELS,
    Entry,
    Fingerprint,
    data_of,
    directories,
    fingerprint,
    on_this_machine,
)

if TYPE_CHECKING:
    from magmax_jax.scenarios import Scenario

QUICK = 100_000
"""Largest number of data files that a report checks for changes."""


def as_json(found: Fingerprint, paths: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The content of "inputs" in `about.json`.

    Args:
      paths: from `locate.paths_of`.
    """
    models = {name: {"path": path} | found.digests[name] for name, path in found.models.items()}
    return {"models": models, "data": list(found.data), "paths": dict(paths)}


def write_sizes(out: RunDirectory, found: Fingerprint) -> None:
    """Writes the names and sizes of the data's files, so that a change can be named.

    Raises:
      OSError: writing fails.
    """
    if out.writes and found.sizes:
        content = gzip.compress(json.dumps(dict(found.sizes)).encode(), 6, mtime=0)
        with new_file(out.path / DATA_FILES) as partial:
            partial.write_bytes(content)


def changes(run: Path, record: Mapping[str, Any], now: Fingerprint) -> list[str]:
    """What differs from a record, one clause each; skips whatever `now` does not have.

    Args:
      run: its directory, which has the names of the data's files.
      record: as `as_json` made it; {} for a run that has none.
    """
    if not record:
        return []
    found = []
    for name, before in record.get("models", {}).items():
        if name in now.models:
            for part, files in changed_parts(before, now.digests[name]).items():
                listed = f" ({some(files)})" if files else ""
                what = "theta_0" if name == MODELS[0] else name
                found.append(f"the {part} of {what} at {now.models[name]}{listed}")
    entries = record.get("data", [])
    if not any(entry["kind"] == PIXELS for entry in now.data):  # pixels were not read
        entries = [entry for entry in entries if entry["kind"] != PIXELS]
    if now.data and len(now.data) != len(entries):
        return [*found, "the number of directories of its data"]
    for before, after in zip(entries, now.data, strict=False):
        if before.get("digest") == after["digest"]:
            continue
        if after["kind"] == PIXELS:
            found.append(f"the images of {after['dataset']}")
            continue
        sizes = _sizes(run).get(before.get("path", ""))
        how = difference(sizes, now.sizes[after["path"]]) if sizes is not None else ""
        how = how or f"{counted(after['files'], 'file')} of {after['bytes']:,} bytes"
        found.append(f"the images under {after['path']} ({how})")
    return found


def refuse(run: Path, changed: Sequence[str], allow: bool) -> list[str]:
    """A warning about what changed, if changes are allowed; empty if nothing changed.

    Raises:
      UserError: something changed, and changes are not allowed.
    """
    if not changed:
        return []
    said = f"{run} was made with inputs that have changed since: {'; '.join(changed)}"
    if not allow:
        raise UserError(
            f"{said}; restore them, or pass --allow-changed (allow_changed=True) to continue with "
            "the changed ones"
        )
    return [f"{said}; the changed ones are used"]


def unrecorded(run: Path) -> list[str]:
    """A note on a run that has no record to compare with."""
    return [
        f"{run} was made before runs recorded their model and data, so changes since then are not "
        "detected; photos with an EXIF orientation, transparent images and class names with "
        "quotes or HTML entities were read differently then"
    ]


class Compared(NamedTuple):
    """A run whose inputs are to be compared with its record.

    Attributes:
      run: its directory.
      config: its configuration, as `locate.stored_config` finds it.
      scenario: the run's scenario, if its data is compared, too.
    """

    run: Path
    config: ExperimentConfig
    scenario: "Scenario | None" = None


@contextlib.contextmanager
def checking(
    subjects: Sequence[Compared], allow: bool, say: Callable[[str], None]
) -> Iterator[None]:
    """Compares runs' inputs with their records in a thread, while the body loads a model.

    Args:
      allow: report changes instead of refusing them.
      say: takes a line for each run whose inputs changed.

    Raises:
      UserError: something changed, or cannot be read.
    """
    with ThreadPoolExecutor(1) as pool:
        found = [pool.submit(_check, subject, allow) for subject in subjects]
        try:
            yield
        except UserError:
            for each in found:
                each.result()  # if the model no longer loads, report that it changed
            raise
        for each in found:
            for note in each.result():
                say(f"note: {note}")


def _check(subject: Compared, allow: bool) -> list[str]:
    run, config, scenario = subject
    record = RunDirectory(run).recorded()
    if not record:
        return unrecorded(run)
    data = data_of(config.scenario, scenario) if scenario is not None else []
    return refuse(run, changes(run, record, fingerprint(directories(config), data)), allow)


def check_present(runs: Sequence[Path], allow: bool = False) -> list[str]:
    """Compares models, and data sets of at most `QUICK` files, that are still where the runs found
    them; for a report, which reads neither model nor data.

    Returns:
      warnings about what changed.

    Raises:
      UserError: something changed, and changes are not allowed.
    """
    listed: dict[Place, Sizes] = {}  # runs may share their data
    notes = []
    for run in runs:
        record = RunDirectory(run).recorded()
        models = {name: each["path"] for name, each in record.get("models", {}).items()}
        there = [entry for entry in record.get("data", []) if _is_present(entry)]
        data: list[Entry] = [(e["dataset"], Place(e["kind"], e["path"])) for e in there]
        now = fingerprint(on_this_machine(models), data, listed)
        notes += refuse(run, changes(run, {**record, "data": there}, now), allow)
    return notes


def _is_present(entry: Mapping[str, Any]) -> bool:
    quick = entry["kind"] != PIXELS and entry["files"] <= QUICK
    return quick and os.access(entry["path"], os.R_OK | os.X_OK)


def _sizes(run: Path) -> dict[str, Sizes]:
    """The sizes that `write_sizes` wrote; {} if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError, RecursionError, zlib.error):
        found = json.loads(gzip.decompress((run / DATA_FILES).read_bytes()).decode())
        if isinstance(found, dict) and all(map(_is_sizes, found.values())):
            return found
    return {}


def _is_sizes(found: Any) -> bool:
    return isinstance(found, dict) and all(type(size) is int for size in found.values())
