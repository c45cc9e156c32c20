"""One file adds one of everything, through public names only, without editing anything else.

The definitions below are what a user would write. Each is then used wherever bundled ones are:
a run, its plan, merging in memory and from files, studies, table, report, `--help`.
"""

import csv
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.config import ExperimentConfig
from magmax_jax.data import DataSet, Source
from magmax_jax.evaluation.metrics import Metric
from magmax_jax.merging import TaskVectors, is_merged, kth_magnitude
from magmax_jax.registry import (
    DATA_SETS,
    METRICS,
    REGULARIZERS,
    REPORT_SECTIONS,
    RULES,
    SCENARIO_KINDS,
)
from magmax_jax.report.items import Column, Table
from magmax_jax.report.section import Section
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.studies import overhead
from magmax_jax.scenarios import Data, Division, ScenarioKind
from magmax_jax.training import Regularizer, RegularizerSpec, Setup


def biggest(share: float = 0.1, thresholds: Sequence[float] | None = None) -> mm.MergeRule:
    """A rule with a threshold over the whole vector: the sum of each task vector's largest."""

    def rank(size: int) -> int:
        return size - int(share * size)

    def threshold(tau) -> jax.Array:
        return kth_magnitude(tau, rank(sum(x.size for x in jax.tree.leaves(tau) if is_merged(x))))

    def finalize(taus):
        least = thresholds or [threshold(tau) for tau in taus]

        def merge(*leaves):
            return sum(jnp.where(abs(x) >= t, x, 0.0) for x, t in zip(leaves, least, strict=True))

        return mm.rules.leafwise(merge, *taus)

    def survey(vectors: TaskVectors) -> mm.MergeRule:
        return biggest(share, vectors.kth_magnitudes(rank(vectors.size)))

    facts = {"scope": "entry", "reads_names": False, "survey": None if thresholds else survey}
    return mm.rules.collecting(finalize, default_scale=0.5, **facts)


def anchor(setup: Setup) -> Regularizer:
    """A regularizer: a pull back to the last task's parameters."""

    def penalty(memory, params, forward):
        pulls = jax.tree.map(lambda new, old: jnp.sum(jnp.square(new - old)), params, memory)
        return setup.strength * sum(jax.tree.leaves(pulls))

    return Regularizer(lambda theta_0: theta_0, penalty, lambda memory, params, *_: params)


def by_parity(config, data: Data, seed: int) -> Division:
    """A kind of scenario: even class ids first, then odd ones."""
    classes = np.arange(len(data.train.class_names))
    train, test = (part.source.labels % 2 for part in data.parts)
    return Division(["even", "odd"], [classes[::2], classes[1::2]], (train, test))


def read_stripes(split, data_dir) -> Source:
    """A data set: images of one grey level per class."""
    labels = np.tile(np.arange(4, dtype=np.int32), 12 if split == "train" else 3)
    images = np.broadcast_to(60 * labels[:, None, None, None], (len(labels), 16, 16, 3))
    names = ("black", "dark", "light", "white")
    return Source(images.astype(np.uint8), labels, names, image_shape=(16, 16))


def spread(history, weighted: bool) -> float:
    """A metric: the spread of the tasks' final accuracies."""
    return float(np.ptp(history.accuracy[-1]))


def counted(group) -> list:
    """A section of the report."""
    records = [{"run": run.name, "rows": len(run.rows)} for run in group.runs]
    columns = [Column("rows", "Rows")]
    return [Table("counted", "Rows of each run", "A row a line.", records, columns)]


MINE = (
    (RULES, "biggest", biggest),
    (REGULARIZERS, "anchor", RegularizerSpec("ANCHOR", anchor, strength=0.5, passes_per_image=1)),
    (SCENARIO_KINDS, "parity", ScenarioKind("by parity", by_parity, reads=("dataset",))),
    (DATA_SETS, "stripes", DataSet(name="stripes", read=read_stripes)),
    (METRICS, "spread", Metric("Spread", "points", "largest minus smallest accuracy", spread)),
    (REPORT_SECTIONS, "counted", Section("Counted", 5, counted)),
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    for registry, name, value in MINE:
        registry.register(name, value)
    yield
    for registry, name, _ in MINE:
        registry.unregister(name)


def magmax(*words) -> None:
    """Runs a command of the program, which must succeed."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as ended:
        code = ended.code
    assert code == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_clip):
    """A run with all of them, from the command line."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    chosen = {
        "--model.source": tiny_clip,
        "--scenario.dataset": "stripes",
        "--scenario.kind": "parity",
        "--method.regularizer": "anchor",
        "--train.epochs": 2,
        "--train.batch-size": 8,
        "--out": out,
    }
    flags = [word for pair in chosen.items() for word in pair]
    magmax("run", "quickstart", *flags, "--merges", "biggest@0.5", "biggest@1", "max_magnitude")
    return out


def test_a_run_learns_with_them(finished):
    rows = [json.loads(line) for line in (finished / "results.jsonl").read_text().splitlines()]
    assert {row["group"] for row in rows} == {"all", "even", "odd"}
    assert {row["model"] for row in rows} == {"zero_shot", "finetuned", "biggest", "max_magnitude"}
    steps = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [step["task"] for step in steps] == [1] * 6 + [2] * 6
    assert steps[0]["penalty"] == 0 < steps[-1]["penalty"]


def test_the_plan_counts_them(finished):
    config = ExperimentConfig.from_file(finished / "config.json")
    found = estimate(config, data_size(config.scenario, config.seed))
    # The quickstart holds out a tenth of each class, here 2 of 12 images.
    assert (found.tasks, found.steps, found.images, found.inexact) == (2, 12, 80, "")
    # After every task, and at the seven scales that the quickstart tries for each rule.
    assert found.evaluated == 12 * (1 + 4 * 2) + 2 * (7 * 8 + 12)
    magmax("evaluate", f"{finished}:biggest@0.7")


def test_merging_from_files_gives_the_bits_of_merging_in_memory(finished, tmp_path):
    names = ("zero_shot", "task:1", "task:2")
    for name in names:
        magmax("export", finished, "--model", name, "--output", tmp_path / name)
    files = [tmp_path / name for name in names]
    merge = ("merge", "--pretrained", files[0], "--finetuned", *files[1:], "--rule", "biggest")
    magmax(*merge, "--options", "share=0.2", "--output", tmp_path / "merged")
    theta_0, *thetas = (load_file(file / "model.safetensors") for file in files)
    expected = mm.merge(theta_0, thetas, biggest(share=0.2))
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        np.testing.assert_array_equal(tensor, expected[name], strict=True)
    assert any((merged[name] != theta_0[name]).any() for name in merged)


def test_studies_time_them(finished, monkeypatch):
    monkeypatch.setattr(
        overhead.rules, "RULES", {name: RULES[name] for name in ("biggest", "max_magnitude")}
    )
    some = {name: REGULARIZERS[name] for name in ("none", "anchor")}
    monkeypatch.setattr(overhead, "REGULARIZERS", some)
    magmax("analyse", finished, "--only", "overhead")
    lines = (finished / "analysis" / "overhead.jsonl").read_text().splitlines()
    found = {json.loads(line)["what"] for line in lines}
    assert {"training step", "ANCHOR: step", "biggest: merge"} <= found


def test_the_table_names_them(finished, capsys):
    magmax("table", finished)
    shown = capsys.readouterr().out
    assert "stripes" in shown and "| ANCHOR |" in shown and "ANCHOR, biggest at 1" in shown
    magmax("table", finished, "--metric", "spread", "--format", "csv")
    [header, *_] = csv.DictReader(capsys.readouterr().out.splitlines())
    assert header


def test_the_report_shows_them(finished):
    magmax("report", finished)
    page = (finished / "report" / "index.html").read_text()
    for text in ("stripes, by parity", "ANCHOR", "biggest@0.5", "Spread", "Rows of each run"):
        assert text in page
    with (finished / "report" / "data" / "counted.csv").open() as file:
        [record] = csv.DictReader(file)
    assert int(record["rows"]) == len((finished / "results.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("run", "quickstart"), ("anchor", "parity", "stripes", "biggest")),
        (("table",), ("spread",)),
        (("merge",), ("biggest",)),
    ],
)
def test_help_lists_them(command, names, capsys):
    magmax(*command, "--help")
    shown = capsys.readouterr().out
    assert [name for name in names if name not in shown] == []
