"""Common parts of the analyses, which are made after a run from the models that it kept."""

from collections.abc import Sequence

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.analyses import ANALYSES
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Item, Note, Record
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section

NAMES = {name: analysis.title for name, analysis in ANALYSES.items()}
"""Analyses by file name."""


def analysed(group: Group, name: str) -> list[Record]:
    """The records of an analysis over all runs, each with the name of its run."""
    return [
        {"run": run.name} | record | {"run": run.name}  # first, whatever the record has
        for run in group.runs
        for record in run.analysis(name)
    ]


def items(group: Group) -> list[Item]:
    """One note if no run has any analysis, instead of one per analysis."""
    if any(run.analysis(name) for run in group.runs for name in NAMES):
        return []
    runs = _learned_one_by_one(group)
    if not runs:
        return []
    return [_note(group, f"There are none yet ({', '.join(NAMES.values())})", runs)]


def absent(group: Group, name: str) -> list[Item]:
    """A note on the runs that lack this analysis, unless no run has any analysis at all."""
    lacking = [run for run in _learned_one_by_one(group) if not run.analysis(name)]
    if not lacking or items(group):
        return []
    whose = f" of {', '.join(run.name for run in lacking)}" if len(group.runs) > 1 else ""
    return [_note(group, f"No {NAMES[name]}{whose} yet", lacking)]


def common(records: Sequence[Record], field: str) -> list:
    """All values of a field, in order of first appearance."""
    return list(dict.fromkeys(record[field] for record in records))


def figures_first(found: Sequence[Item]) -> list[Item]:
    """The same items, notes last."""
    return sorted(found, key=lambda item: isinstance(item, Note))


def _learned_one_by_one(group: Group) -> list[Run]:
    return [run for run in group.runs if not run.config.method.joint]


def _note(group: Group, lacking: str, runs: Sequence[Run]) -> Note:
    analyse = group.program.line("analyse", "RUN")
    if all(run.config.checkpoint.keep_tasks for run in runs):
        return Note(f"{lacking}: analyse the run, which kept every task's model.", analyse)
    repeat = group.program.line("run", "...", "--checkpoint.keep-tasks", "--out", "RUN")
    text = f"{lacking}: repeat the run, keeping every task's model, and analyse it."
    return Note(text, f"{repeat}\n{analyse}")


REPORT_SECTIONS.register("analyses", Section("Analyses", 100, items))
