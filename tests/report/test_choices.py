"""Tables with a model selector: their models, their initial model, and their CSV files."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report import confusions
from magmax_jax.report.groups import Group, grouped
from magmax_jax.report.items import CHOSEN, Folded, Grid, Item, Table
from magmax_jax.report.page import cells, lines
from magmax_jax.report.runs import Run
from magmax_jax.runs.directory import RunDirectory
from tests.report.made_up import config, write

MODELS = ["max_magnitude@0.5", "finetuned", "zero_shot", "average@1"]


def flat(items: list[Item]) -> list[Item]:
    return [inner for i in items for inner in (flat(i.items) if isinstance(i, Folded) else [i])]


def choosing(group: Group, section: str) -> dict[str, Table | Grid]:
    found = flat(REPORT_SECTIONS[section].items(group))
    return {item.name: item for item in found if isinstance(item, Table | Grid) and item.choices}


@pytest.fixture
def group(made) -> Group:
    return grouped([made.run])[0]


def test_every_model_can_be_chosen_with_the_best_merge_first(group):
    found = choosing(group, "classes") | choosing(group, "matrices")
    assert set(found) == {
        "classes-sequential", "confusions-sequential",
        "matrices-sequential-agnostic", "matrices-sequential-aware",
    }  # fmt: skip
    for item in found.values():
        assert [label for label, _ in item.choices] == MODELS
        assert dict(item.choices)["finetuned"] == "last fine-tuned"


def test_grids_of_every_model_match_its_counts(made):
    def table(name: str) -> list[dict[str, str]]:
        with (made.out / "data" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    grid = table("confusions-sequential")
    for label in MODELS:
        after = 0 if label == "zero_shot" else 3
        kept = load_file(made.run.path / "counts" / f"{after:03d}-{label}.safetensors")
        shown = np.array([int(record[label]) for record in grid])
        np.testing.assert_array_equal(shown.reshape(9, 9), as_matrix(kept["confusions"], 9))
        last = [r for r in table("matrices-sequential-aware") if int(r["after_task"]) == after]
        right, total = (kept[name].sum((1, 2)) for name in ("aware", "total"))
        assert [float(r[label]) for r in last] == list(right / total)
    later = [r for r in table("matrices-sequential-aware") if int(r["after_task"])]
    assert {r["zero_shot"] for r in later} == {""}


def test_a_table_initially_shows_its_first_choice(group):
    table = choosing(group, "classes")["classes-sequential"]
    chosen = next(i for i, column in enumerate(table.columns) if CHOSEN in column.field)
    for record in table.records:
        shown = cells(record, table.columns, table.choices)[chosen]
        assert shown.number == record["max_magnitude@0.5 agnostic"]


def test_a_grid_with_repeated_names_is_still_split_into_lines(group):
    grid = choosing(group, "classes")["confusions-sequential"]
    alike = grid._replace(records=[r | {"label": "same"} for r in grid.records])
    assert [(name, len(tints)) for name, tints in lines(alike)] == [("same", 9)] * 9
    first = grid.records[0]["max_magnitude@0.5"] / grid.records[0]["images"]
    assert float(lines(alike)[0][1][0].share) == pytest.approx(first, abs=1e-3)


def test_every_run_of_a_report_has_its_choices(tmp_path):
    settings = config(2), config(2, sequential=False)
    runs = [Run(write(tmp_path / str(i), c), c) for i, c in enumerate(settings)]
    for item in choosing(grouped(runs)[0], "matrices").values():
        labels = [label for label, _ in item.choices]
        assert {"zero_shot", "finetuned", "random_mix@1"} < set(labels)


def test_confusions_of_many_models_leave_the_page_small(group, monkeypatch):
    monkeypatch.setattr(confusions, "GRID_CELLS", 9 * 9 * 3)
    grid = choosing(group, "classes")["confusions-sequential"]
    assert [label for label, _ in grid.choices] == MODELS[:3]
    assert "average@1" not in grid.records[0]
    monkeypatch.setattr(confusions, "GRID_CLASSES", 8)
    assert list(choosing(group, "classes")) == ["classes-sequential"]


@pytest.fixture
def same(tmp_path) -> Group:
    """A run in which every task covers all six classes."""
    setting = config(2, merges=("average",))
    return grouped([Run(write(tmp_path, setting, same=True), setting)])[0]


def test_equal_accuracies_are_shown_once(same):
    assert list(choosing(same, "matrices")) == ["matrices-sequential-agnostic"]
    names = [item.name for item in flat(REPORT_SECTIONS["matrices"].items(same))]
    assert names and not [name for name in names if "aware" in name]
    [measures] = REPORT_SECTIONS["measures"].items(same)
    assert measures.name == "measures-agnostic" and "(aware) they are the same" in measures.caption
    table = choosing(same, "classes")["classes-sequential"]
    assert not [column for column in table.columns if "aware" in column.title]


def test_top5_is_shown_where_there_are_more_than_five_classes(made, tmp_path, same):
    def shown(group: Group) -> list[bool]:
        tables = REPORT_SECTIONS["measures"].items(group)
        assert all("top5_weighted" in table.records[0] for table in tables)  # always in CSV files
        return [any(c.field == "top5_weighted" for c in table.columns) for table in tables]

    assert shown(grouped([made.run])[0]) == [True, False]  # nine classes, three per task
    assert shown(same) == [True]
    four = config(2)
    names = [f"class {i}" for i in range(4)]
    few = Run(write(tmp_path / "few", four, names), four)
    assert shown(grouped([few])[0]) == [False, False]
    old = Run(write(tmp_path / "old", four, names, rows_only=True), four)
    assert shown(grouped([old])[0]) == [True, True]  # the number of classes is unknown


def test_more_models_do_not_add_figures(tmp_path):
    setting = config(2, merges=())
    path = write(tmp_path, setting)
    run = Run(path, setting)
    last = [row for row in run.rows if row.model == "finetuned"]
    merges = [replace(r, model="average", scale=s / 8) for s in range(1, 13) for r in last]
    before = len(flat(REPORT_SECTIONS["matrices"].items(grouped([run])[0])))
    RunDirectory(path).append(merges)
    group = grouped([Run(path, setting)])[0]
    found = flat(REPORT_SECTIONS["matrices"].items(group))
    assert len(found) == before + 2  # the best merge's, for both protocols
    assert len(choosing(group, "matrices")["matrices-sequential-aware"].choices) == 2 + 12
