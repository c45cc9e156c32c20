"""CSV files contain what runs measured."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.evaluation.metrics import measure
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report import confusions
from magmax_jax.report.groups import grouped
from magmax_jax.report.items import Figure, Table, Tiles, percent
from magmax_jax.report.page import as_csv
from magmax_jax.report.runs import Run
from tests.report.conftest import HOSTILE, Made
from tests.report.made_up import with_matrices


def table(made: Made, name: str) -> list[dict[str, str]]:
    with (made.out / "data" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def counts(run: Run, name: str) -> dict[str, np.ndarray]:
    return load_file(run.path / "counts" / f"{name}.safetensors")


def test_accuracy_over_tasks_matches_the_rows(made):
    found = {
        (r["model"], int(r["after_task"])): float(r["accuracy"])
        for r in table(made, "accuracy-all")
    }
    rows = [r for r in made.run.rows if (r.group, r.protocol) == ("all", "agnostic")]
    for row in rows:
        assert found[row.label, row.after_task] == row.accuracy
    starts = {key for key in found if key[1] == 0}  # where every model's line starts
    assert len(found) == len(rows) + len(starts) - 1


def test_accuracy_on_seen_tasks_weights_images(made):
    found = {
        (r["model"], r["after_task"]): float(r["accuracy"]) for r in table(made, "accuracy-seen")
    }
    agnostic, total = (
        counts(made.run, "002-finetuned")[n][:2].sum() for n in ("agnostic", "total")
    )
    assert found["finetuned", "2"] == pytest.approx(agnostic / total, abs=1e-12)


@pytest.mark.parametrize("protocol", ["agnostic", "aware"])
def test_matrices_are_marginals_of_the_counts(made, protocol):
    found = table(made, f"matrix-sequential-max-magnitude-0-5-{protocol}")
    assert len(found) == (1 + 3) * 3
    for record in found:
        after, task = int(record["after_task"]), int(record["task"].removeprefix("task ")) - 1
        name = f"{after:03d}-{'max_magnitude@0.5' if after else 'zero_shot'}"
        right, total = (counts(made.run, name)[n][task].sum() for n in (protocol, "total"))
        assert float(record["accuracy"]) == right / total


def test_measures_match_the_library(made):
    histories = made.run.beside("agnostic")
    assert len(histories) > len(made.run.agnostic)  # merges at chosen scales
    for record, history in zip(table(made, "measures-agnostic"), histories.values(), strict=True):
        for name, both in measure(history).items():
            for weighting, value in both._asdict().items():
                shown = record[f"{name}_{weighting}"]
                assert shown == "" if value is None else float(shown) == value


def test_top5_comes_from_the_last_evaluation(made):
    last = counts(made.run, "003-max_magnitude@0.5")
    [record] = [r for r in table(made, "measures-aware") if r["model"] == "max_magnitude@0.5"]
    assert float(record["top5_weighted"]) == last["aware_top5"].sum() / last["total"].sum()


def test_classes_and_confusions_match_the_last_evaluations_counts(made):
    last = counts(made.run, "003-max_magnitude@0.5")
    classes = {r["class"]: r for r in table(made, "classes-sequential")}
    names = made.run.class_names
    assert set(classes) == set(names) and HOSTILE in classes
    total = last["total"].sum((0, 1))
    for protocol in ("agnostic", "aware"):
        for right, all_of_it, name in zip(last[protocol].sum((0, 1)), total, names, strict=True):
            assert float(classes[name][f"max_magnitude@0.5 {protocol}"]) == right / all_of_it
            assert int(classes[name]["images"]) == all_of_it
    shown = [
        (names.index(r["label"]), names.index(r["predicted"]), int(r["count"]))
        for r in table(made, "confusion-sequential")
    ]
    np.testing.assert_array_equal(shown, last["confusions"])
    confusion = as_matrix(last["confusions"], len(names))
    pairs = table(made, "confused-pairs-sequential")
    wrong = confusion - np.diag(np.diag(confusion))
    assert int(pairs[0]["count"]) == wrong.max()
    assert all(pair["label"] != pair["predicted"] for pair in pairs)


def test_counts_of_an_earlier_version_give_the_same_tables(made, tmp_path):
    def tables(path: Path) -> list[str]:
        found = REPORT_SECTIONS["classes"].items(grouped([Run(path, made.run.config)])[0])
        return [as_csv(item.records) for item in found if isinstance(item, Figure | Table)]

    shutil.copytree(made.run.path, tmp_path / "run")
    with_matrices(tmp_path / "run")
    assert "confusion" in counts(Run(tmp_path / "run", made.run.config), "003-max_magnitude@0.5")
    assert tables(tmp_path / "run") == tables(made.run.path)


def test_confusions_of_many_classes_are_drawn_in_blocks(made, monkeypatch):
    monkeypatch.setattr(confusions, "DRAWN_CLASSES", 4)  # of 9: in blocks of 3
    drawn = []
    monkeypatch.setattr(
        confusions, "heat_map", lambda records, *_, **how: drawn.append((records, how))
    )
    kept = made.run.counts("max_magnitude@0.5")
    figure, _ = confusions.best_confusions(made.run, kept, made.run.class_names)
    assert "A cell of the figure stands for 3 by 3 classes" in figure.caption
    [(records, how)] = drawn
    assert how["missing"] == 0
    blocks = as_matrix(kept["confusions"], 9).reshape(3, 3, 3, 3).sum((1, 3))
    names = list(dict.fromkeys(r["label"] for r in records))
    assert names == ["0 to 2", "3 to 5", "6 to 8"]
    cells = {(r["label"], r["predicted"]): r["share"] for r in records}
    shown = [[cells.get((i, j), 0.0) for j in names] for i in names]
    np.testing.assert_allclose(shown, blocks / blocks.sum(1, keepdims=True), rtol=1e-12)
    assert len(figure.records) == len(kept["confusions"])  # the CSV file has every pair


def test_domains_match_the_rows(made):
    found = {
        (r["model"], r["after_task"], r["domain"]): float(r["accuracy"])
        for r in table(made, "domains-sequential-max-magnitude-0-5")
    }
    for row in made.run.rows:
        key = (row.label, str(row.after_task), row.group.removeprefix("domain:"))
        if row.group.startswith("domain:") and row.protocol == "agnostic" and key in found:
            assert found[key] == row.accuracy
    assert {key[2] for key in found} == {"photo", "sketch"}


def test_provenance_adds_up(made):
    records = made.run.analysis("provenance")
    of_entries = table(made, "provenance-max-magnitude-sequential-layer-supplied")
    supplied = sum(r["supplied"] for r in records if r["layer"] == "head" and r["task"] == "task 2")
    entries = sum(r["entries"] for r in records if r["layer"] == "head" and r["task"] == "task 2")
    [shown] = [r for r in of_entries if (r["layer"], r["task"]) == ("head", "task 2")]
    assert float(shown["share"]) == pytest.approx(supplied / entries)
    norms = table(made, "provenance-max-magnitude-sequential-kind-squared-norm")
    for kind in {r["kind"] for r in norms}:
        assert sum(float(r["share"]) for r in norms if r["kind"] == kind) == pytest.approx(1)


def test_the_chosen_scale_is_the_best_on_validation_images(made):
    rows = [r for r in made.run.sweep if (r.group, r.protocol) == ("all", "agnostic")]
    for record in table(made, "sweep-chosen"):
        mine = [r for r in rows if r.model == record["rule"]]
        best = max((r for r in mine if r.split == "validation"), key=lambda r: r.accuracy)
        assert float(record["scale"]) == best.scale
        assert float(record["validation"]) == best.accuracy
        published = {"max_magnitude": 0.5, "average": 1.0}[record["rule"]]
        tested = {r.scale: r.accuracy for r in mine if r.split == "test"}
        assert float(record["test"]) == tested[best.scale]
        assert float(record["published_scale"]) == published
        # The run's own measurement at that scale takes precedence over the sweep's.
        label = f"{record['rule']}@{published:g}"
        assert float(record["published_test"]) == made.run.last(label)


def test_final_accuracies_label_published_and_chosen_scales(made):
    found = {r["model"]: r for r in table(made, "final")}
    for record in table(made, "sweep-chosen"):
        rule, scale = record["rule"], float(record["scale"])
        chosen = found[f"{rule}@{scale:g}"]
        assert (chosen["scale"], chosen["accuracy"]) == ("chosen", record["test"])
        published = found[f"{rule}@{float(record['published_scale']):g}"]
        assert (published["scale"], published["accuracy"]) == (
            "published",
            record["published_test"],
        )
    assert found["finetuned"]["scale"] == found["zero_shot"]["scale"] == ""
    assert len(found) == 2 + 2 * 2


def test_the_first_tile_is_the_merge_chosen_on_held_out_images(made):
    found = REPORT_SECTIONS["summary"].items(grouped([made.run])[0])
    [tiles] = [item for item in found if isinstance(item, Tiles)]
    best = max(table(made, "sweep-chosen"), key=lambda record: float(record["validation"]))
    chosen, published = tiles.tiles[:2]
    label = f"{best['rule']}@{float(best['scale']):g}"
    assert chosen.note == f"{label}: rule and scale chosen on 500 held-out images"
    assert chosen.value == percent(float(best["test"]))
    assert published.value == percent(float(best["published_test"]))


@pytest.mark.parametrize(
    ("name", "file", "field"),
    [
        ("signs-of-shared", "signs", "of_shared"),
        ("similarity-sequential", "similarity", "cosine"),
        ("alignment-sequential", "alignment", "cka"),
        ("overhead", "overhead", "seconds"),
    ],
)
def test_analyses_are_reported_as_written(made, name, file, field):
    written = made.run.analysis(file)
    shown = table(made, name)
    key = {f: shown[0][f] for f in shown[0] if f in written[0] and f != field}
    [same] = [w for w in written if {f: _text(w[f]) for f in key} == key]
    assert float(shown[0][field]) == same[field]


def test_contribution_is_the_loss_without_a_task(made):
    for record in table(made, "contribution-max-magnitude-sequential"):
        gain = float(record["with_all"]) - float(record["accuracy"])
        assert float(record["gain"]) == pytest.approx(gain)


def test_every_figure_has_images_and_data(made):
    names = {file.stem for file in (made.out / "figures").iterdir()}
    for name in names:
        assert (made.out / "figures" / f"{name}.png").stat().st_size > 5_000
        assert (made.out / "figures" / f"{name}.svg").read_text().startswith("<?xml")
        assert (made.out / "data" / f"{name}.csv").read_text().count("\n") > 1
    assert len(names) > 25


def _text(value: object) -> str:
    return "" if value is None else str(value)
