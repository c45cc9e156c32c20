"""`about.json`: describes a run, for readers of its directory without data or model."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from magmax_jax.io.atomic import write_text
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import PUBLISHED, RunDirectory
from magmax_jax.runs.merge_specs import Merge, Refitted, num_models
from magmax_jax.version import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write(
    out: RunDirectory,
    parts: RunParts,
    command: str,
    inputs: Mapping[str, Any],
    changed: Sequence[str] = (),
) -> None:
    """Writes the scenario, what is learned, the identity of theta_0 and the data, and an entry for
    each start of the run.

    Args:
      command: repeats the run, "" if there is none.
      inputs: from `recorded.as_json`.
      changed: how the inputs differ from those of the previous start, one clause each.
    """
    if not out.writes:
        return
    scenario = parts.scenario
    earlier = out.read_about()
    about = {
        "scenario": scenario.name,
        "classes": [name for head in scenario.heads for name in head.class_names],
        "domains": list(scenario.domain_names),
        "tasks": [
            {
                "name": task.name,
                "classes": task.classes.tolist(),
                "train": len(task.train),
                "validation": len(task.validation),
                "test": len(task.test),
            }
            for task in scenario.tasks
        ],
        "learned": [
            {
                "name": task.name,
                "steps": parts.steps(number),
                "images": len(task.train),
                "epochs": parts.epochs(number),
            }
            for number, task in enumerate(parts.tasks, start=1)
        ],
        "models": num_models(parts.config),
        PUBLISHED: earlier.get(PUBLISHED, {}) | _published(parts.merges, parts.refits),
        "inputs": inputs,
        "starts": [
            *earlier.get("starts", []),
            _start(command) | ({"changed": [*changed]} if changed else {}),
        ],
    }
    write_text(out.about, json.dumps(about, indent=1) + "\n")


def record_published(
    out: RunDirectory, merges: Mapping[str, Merge], refits: Mapping[str, Refitted]
) -> None:
    """Adds the published scales of a sweep's rules to the recorded ones."""
    about = out.read_about()
    known = about.get(PUBLISHED, {})
    found = _published(merges, refits)
    if not out.writes or not about or found.items() <= known.items():
        return
    out.check_held()
    write_text(out.about, json.dumps({**about, PUBLISHED: known | found}, indent=1) + "\n")


def _published(
    merges: Mapping[str, Merge], refits: Mapping[str, Refitted] = {}
) -> dict[str, float]:
    """Rule -> its default scale; a refit has its rule's."""
    scales = {name: merge.rule.default_scale for name, merge in merges.items()}
    return scales | {name: scales[refitted.rule] for name, refitted in refits.items()}


def _start(command: str) -> dict[str, Any]:
    versions = {package: version(package) for package in PACKAGES}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "versions": {"python": platform.python_version(), "magmax_jax": __version__} | versions,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
    }


def class_names(run: Path) -> tuple[str, ...]:
    """The class names that a run's head was made from; () if none are recorded."""
    names = RunDirectory(run).read_about().get("classes")
    return tuple(names) if isinstance(names, list) else ()
