"""What came out, in a few numbers."""

from magmax_jax.evaluation.metrics import forgetting, last_accuracy
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars, bars_height
from magmax_jax.report.groups import Group
from magmax_jax.report.items import (
    WIDTH,
    Column,
    Figure,
    Item,
    Note,
    Record,
    Table,
    Tile,
    Tiles,
    percent,
)
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section
from magmax_jax.report.style import title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT, ModelRef


def items(group: Group) -> list[Item]:
    """Tiles of the run that came out best, a table of all of them, and a bar for every model."""
    # Joint training is what the others are compared with, and few of them have merges.
    best = max(group.runs, key=_worth)
    tiles = _tiles(best, len(group.runs) > 1)
    joint = [run for run in group.runs if _joint(run) and run is not best]
    bounds = [_accuracy_tile(run, FINETUNED, "Joint training") for run in joint[:1]]
    found: list[Item] = [tiles._replace(tiles=[*tiles.tiles, *bounds]), Note(_sentence(best))]
    found += [Note(_unfinished(run)) for run in group.runs if not _is_finished(run)]
    if len(group.runs) > 1:
        found.append(_table(group))
    found.append(_final(group))
    return found


def _tiles(run: Run, several: bool) -> Tiles:
    tiles = []
    if run.best_merge:
        tiles.append(_accuracy_tile(run, run.best_merge, "Best merge"))
    if FINETUNED in run.labels:
        title = "Joint training" if _joint(run) else "Last fine-tuned"
        tiles.append(_accuracy_tile(run, FINETUNED, title))
    tiles += _chosen_tiles(run)
    tiles.append(_accuracy_tile(run, ZERO_SHOT, "Zero-shot"))
    lost = _forgetting(run, run.best)
    if lost is not None:
        plain = _forgetting(run, FINETUNED)
        note = f"of {title_of(run.best)}"
        if run.best_merge and plain is not None:
            note += f"; the last fine-tuned model: {percent(plain)}"
        tiles.append(Tile("Forgetting", percent(lost), "points", note))
    return Tiles(f"The best of the runs: {run.name}" if several else "", tiles)


def _accuracy_tile(run: Run, label: str, title: str) -> Tile:
    note = {ZERO_SHOT: "the pretrained model", FINETUNED: "not merged"}.get(label, label)
    if _joint(run) and label == FINETUNED:
        note = "all tasks at once: the upper bound"
    return Tile(title, percent(run.last(label)), "%", note)


def _chosen_tiles(run: Run) -> list[Tile]:
    """Of the merge that is best on validation images, what it is worth on test images."""
    rows = [row for row in run.sweep if (row.group, row.protocol) == ("all", "agnostic")]
    chosen = [row for row in rows if row.chosen]
    known = {row.label: row.accuracy for row in rows if row.split == "validation"}
    best = max(chosen, key=lambda row: known.get(row.label, 0.0), default=None)
    if best is None:
        return []
    return [
        Tile("Chosen on validation", percent(best.accuracy), "%", f"{best.label}, on test images")
    ]


def _forgetting(run: Run, label: str) -> float | None:
    history = run.agnostic.get(label)
    return forgetting(history, weighted=True) if history else None


def _sentence(run: Run) -> str:
    count = int(run.agnostic[run.best].counts.sum())
    text = (
        f"Accuracy is the share of the {count:,} test images of all tasks whose class is found "
        "among all classes of the scenario (agnostic), after the last task learned; forgetting is "
        "the mean drop of a task's accuracy from its best since it was learned, weighted by images."
    )
    merges = [label for label in run.labels if ModelRef.parse(label).is_merge]
    if len(merges) > 1:
        text += (
            f" The best merge is the best of {len(merges)} on these very images: a choice in "
            "hindsight, unlike a scale chosen on validation images."
        )
    return text


def _worth(run: Run) -> tuple:
    return run.best_merge is not None, not _joint(run), run.last(run.best)


def _joint(run: Run) -> bool:
    return run.config.method.joint


def _is_finished(run: Run) -> bool:
    return run.learned == (1 if _joint(run) else len(run.tasks))


def _unfinished(run: Run) -> str:
    return (
        f"{run.name} is not finished: {run.learned} of {len(run.tasks)} tasks are learned and "
        "evaluated so far, and what needs all of them is left out. Make the report again later."
    )


def _table(group: Group) -> Table:
    records = []
    for run in group.runs:
        record: Record = {
            "run": run.name,
            "best_merge": run.best_merge,
            "accuracy": run.last(run.best_merge) if run.best_merge else None,
            "finetuned": run.last(FINETUNED) if FINETUNED in run.labels else None,
            "zero_shot": run.last(ZERO_SHOT),
            "forgetting": _forgetting(run, run.best_merge) if run.best_merge else None,
            "finetuned_forgetting": _forgetting(run, FINETUNED),
            "folder": run.path.resolve().name,
        }
        records.append(record)
    columns = [
        Column("run", "Run"),
        Column("best_merge", "Best merge"),
        Column("accuracy", "Its accuracy, %", percent),
        Column("finetuned", "Last fine-tuned, %", percent),
        Column("zero_shot", "Zero-shot, %", percent),
        Column("forgetting", "Forgetting of the merge, points", percent),
        Column("finetuned_forgetting", "of the last fine-tuned, points", percent),
        Column("folder", "Folder"),
    ]
    caption = "Agnostic accuracy on all test images after the last task, and forgetting, by images."
    return Table("runs", "The runs side by side", caption, records, columns)


def _final(group: Group) -> Figure:
    records = [
        {
            "run": run,
            "model": label,
            "accuracy": last_accuracy(history, weighted=True),
            "count": int(history.counts.sum()),
        }
        for run, label, history in group.evaluated("agnostic")
        if label in group.drawn
    ]
    several = len(group.runs) > 1
    return Figure(
        "final",
        "Accuracy in the end",
        "Share of all test images whose class is found among all classes of the scenario, at the "
        "latest evaluation." + group.left_out.replace("above", "below"),
        records,
        bars(
            records,
            Axis("run" if several else "model", ""),
            Axis("accuracy", "accuracy, %", "share"),
            ("model", group.labels),
        ),
        "bar chart",
        (WIDTH, bars_height(len(records), len(group.runs) if several else len(records))),
    )


REPORT_SECTIONS.register("summary", Section("In short", 10, items))
