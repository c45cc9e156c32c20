"""The results in a few numbers."""

from magmax_jax.errors import counted
from magmax_jax.evaluation.metrics import forgetting
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.final_bars import final_bars, final_records, final_size
from magmax_jax.report.groups import Group
from magmax_jax.report.items import (
    Column,
    Figure,
    Item,
    Note,
    Record,
    Table,
    Tile,
    Tiles,
    figures_shown,
    percent,
)
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section
from magmax_jax.report.style import title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT, ModelRef


def items(group: Group) -> list[Item]:
    """Tiles of the best run, a table of all runs, a table of rules at published and at chosen
    scales, and a bar for every model."""
    # Joint training is the reference for the others, and rarely has merges.
    best = max(group.runs, key=_worth)
    tiles = _tiles(best, len(group.runs) > 1)
    joint = [run for run in group.runs if _joint(run) and run is not best]
    bounds = [_accuracy_tile(run, FINETUNED, "Joint training") for run in joint[:1]]
    found: list[Item] = [tiles._replace(tiles=[*tiles.tiles, *bounds]), Note(_sentence(best))]
    found += [Note(_unfinished(run)) for run in group.runs if not _is_finished(run)]
    if len(group.runs) > 1:
        found.append(_table(group))
    if any(run.choices for run in group.runs):
        found.append(_choices(group))
    found.append(_final(group))
    return found


def _tiles(run: Run, several: bool) -> Tiles:
    tiles = _chosen_tiles(run)
    if run.best_merge and not tiles:
        tiles.append(_accuracy_tile(run, run.best_merge, "Best merge"))
    if FINETUNED in run.labels:
        title = "Joint training" if _joint(run) else "Last fine-tuned"
        tiles.append(_accuracy_tile(run, FINETUNED, title))
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
    """The rule that is best on held-out images: at its chosen and at its published scale."""
    if (best := run.chosen) is None:
        return []
    images = counted(run.scales.images, "held-out image")
    note = f"{best.label}: rule and scale chosen on {images}"
    tiles = [Tile("Chosen merge", percent(best.test), "%", note)]
    if best.published_test is not None:
        note = f"{best.published_label}, the same rule"
        tiles.append(Tile("At its published scale", percent(best.published_test), "%", note))
    return tiles


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
    if run.choices:
        text += (
            " Published is a rule's default scale; chosen is the scale, of those tried, that is "
            f"best on {counted(run.scales.images, 'training image')} held out of training."
        )
    elif len(merges) > 1:
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
            "chosen": run.chosen.label if run.chosen else None,
            "chosen_accuracy": run.chosen.test if run.chosen else None,
            "forgetting": _forgetting(run, run.best_merge) if run.best_merge else None,
            "finetuned_forgetting": _forgetting(run, FINETUNED),
            "folder": run.path.resolve().name,
        }
        records.append(record)
    chosen = [
        Column("chosen", "Merge chosen on held-out images"),
        Column("chosen_accuracy", "Its accuracy, %", percent),
    ]
    columns = [
        Column("run", "Run"),
        *(chosen if any(run.chosen for run in group.runs) else []),
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
    drawn = set(group.drawn)
    records = final_records(
        (run, label, history, scales)
        for run, label, history, scales in group.compared("agnostic")
        if label in drawn or scales.kind(label)
    )
    caption = (
        "Share of all test images whose class is found among all classes of the scenario, at the "
        "latest evaluation."
    )
    if any(run.choices for run in group.runs):
        caption += (
            " Published: the rule's default scale; chosen: the one that is best on images held "
            "out of training."
        )
    return Figure(
        "final",
        "Final accuracy",
        caption + group.left_out.replace("above", "below"),
        records,
        final_bars(records, group.labels, several=len(group.runs) > 1),
        "bar chart",
        final_size(records, len(group.runs)),
    )


def _choices(group: Group) -> Table:
    """Every rule at its published and at its chosen scale."""
    records: list[Record] = [
        {"run": run.name, **one._asdict()} for run in group.runs for one in run.choices
    ]
    columns = [
        *group.run_columns,
        Column("rule", "Rule"),
        Column("published_scale", "Published scale λ", figures_shown),
        Column("published_test", "Accuracy at that scale, %", percent),
        Column("scale", "Chosen scale λ", figures_shown),
        Column("test", "Accuracy at that scale, %", percent),
        Column("validation", "Accuracy at that scale on held-out images, %", percent),
    ]
    caption = (
        "Agnostic accuracy after the last task, on test images and, in the last column, on the "
        "training images held out of training. The chosen scale is the best on the latter; among "
        "equally good ones, the one closest to 0."
    )
    title = "Rules at their published and their chosen scales"
    return Table("sweep-chosen", title, caption, records, columns)


REPORT_SECTIONS.register("summary", Section("In short", 10, items))
