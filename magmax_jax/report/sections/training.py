"""How training went."""

import numpy as np

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Figure, Item, Note, Record
from magmax_jax.report.lines import lines
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section

POINTS = 240
"""Maximum number of points of a curve; longer curves are averaged over adjacent steps."""


def items(group: Group) -> list[Item]:
    """The loss over all steps."""
    records = [record for run in group.runs for record in _losses(run)]
    if not records:
        return [Note("No step is recorded: runs write metrics.jsonl as they train.")]
    each = max(record["steps"] for record in records)
    means = f" Each point is the mean of up to {each} steps." if each > 1 else ""
    return [
        Figure(
            "loss",
            "Training loss",
            "Mean cross-entropy of each step's batch among the task's own classes, plus the "
            f"penalty, if any, over all tasks, one after another.{means}",
            records,
            lines(
                records,
                Axis("step", "steps, of all tasks", "whole"),
                Axis("loss", "loss, nats"),
                ("run", group.names),
            ),
            "line chart",
        )
    ]


def _losses(run: Run) -> list[Record]:
    lines = [line for line in run.steps if line["loss"] is not None]  # which ends a run
    steps = [line["total_step"] for line in lines]
    losses = [line["loss"] for line in lines]
    pieces = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)) or 1)
    return [
        {
            "run": run.name,
            "step": steps[piece[-1]],
            "loss": float(np.mean([losses[i] for i in piece])),
            "steps": len(piece),
        }
        for piece in pieces
        if len(piece)
    ]


REPORT_SECTIONS.register("training", Section("Training", 80, items))
