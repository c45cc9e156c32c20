"""Compares what runs recorded about theta_0 and their data."""

from collections.abc import Sequence
from typing import Any

from magmax_jax.io.model_files import changed_parts
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.report.runs import Run
from magmax_jax.runs.fingerprint import value_of


def differing_inputs(runs: Sequence[Run]) -> list[str]:
    """A sentence for each run that names an earlier run's model or data but read different files.

    Runs from before inputs were recorded are taken to agree with all others.
    """
    first: dict[tuple[Any, ...], tuple[Run, Any]] = {}
    said = []
    for run in runs:
        record = run.about.get("inputs", {})
        for name, model in record.get("models", {}).items():
            source = value_of(run.config, name)
            earlier, before = first.setdefault((name, source), (run, model))
            if changed := changed_parts(before, model):
                what = f"the {' and the '.join(changed)} of {source}"
                said.append(_sentence(what, earlier, run))
        scenario, data = run.config.scenario, record.get("data", [])
        key = SCENARIO_KINDS[scenario.kind].data(scenario), scenario.data_dir
        found = [entry["digest"] for entry in data]
        earlier, before = first.setdefault(key, (run, found))
        if data and before and before != found:
            said.append(_sentence("the images", earlier, run))
    return said


def changed_starts(runs: Sequence[Run]) -> list[str]:
    """A sentence for each start of a run that continued even though its inputs had changed."""
    return [
        f"{_name(run)} was resumed at {start.get('time', 'an unknown time')} even though its "
        f"inputs had changed: {'; '.join(start['changed'])}."
        for run in runs
        for start in run.about.get("starts", [])
        if start.get("changed")
    ]


def _sentence(what: str, earlier: Run, run: Run) -> str:
    return (
        f"{what} differed between {_name(earlier)} and {_name(run)}, although both name the "
        "same source: their accuracies are not comparable"
    )


def _name(run: Run) -> str:
    return run.name or str(run.path)
