"""Comparing recipes: scales chosen on validation images, paired differences on test images."""

import math
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from magmax_jax.cli.results import main
from magmax_jax.config import ExperimentConfig, MethodConfig
from magmax_jax.errors import exit_code
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.groups import grouped
from magmax_jax.report.items import MINUS
from magmax_jax.report.recipes.comparison import MAGMAX, Comparison, Recipe
from magmax_jax.report.recipes.estimates import Estimate, estimate, mean_of
from magmax_jax.report.recipes.situations import situations
from magmax_jax.report.recipes.trainings import trainings
from magmax_jax.report.runs import find
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.sweep import scales_of
from tests.report.swept_runs import CIFAR, PACS, SEEDS, VALIDATED, evaluated, write_all, write_run

EMA, TSV, MIN = (Recipe("last", rule) for rule in ("ema", "tsv_m", "min_magnitude"))
CONFIG = ExperimentConfig()
ON_CIFAR, ON_PACS = "cifar100, 5 tasks", "pacs, domains"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("over-time")
    write_all(folder)
    return folder


def compared(folder) -> Comparison:
    found, notes = trainings(find([folder])[0])
    assert not notes
    return Comparison(found)


@pytest.fixture(scope="module")
def comparison(runs):
    return compared(runs)


def written(folder, tmp_path, *flags: str) -> str:
    """The page written by the command."""
    output = tmp_path / "docs" / "results.md"
    output.parent.mkdir(exist_ok=True)
    assert exit_code(lambda: main([str(folder), "--output", str(output), *flags])) == 0
    return output.read_text()


def sentences(page: str) -> str:
    """The page without its line breaks."""
    return " ".join(page.split())


def test_errors_are_standard_errors_of_means():
    assert estimate([0.05, 0.05, 0.08]) == pytest.approx((0.06, 0.01, 3))
    assert estimate([0.3]) == Estimate(0.3, None, 1)
    both = mean_of([Estimate(0.06, 0.01, 3), Estimate(0.01, 0.01 / math.sqrt(3), 3)])
    assert both == pytest.approx((0.035, 0.01 / math.sqrt(3), 6))
    assert mean_of([Estimate(0.2, None, 1), Estimate(0.4, 0.1, 2)]).error is None


def test_scales_are_chosen_on_validation_images(comparison):
    by_benchmark = {t.benchmark: t for t in comparison.trained}
    chosen = {name: comparison.scale(MAGMAX, "each", t) for name, t in by_benchmark.items()}
    assert chosen == {ON_CIFAR: 0.7, ON_PACS: 0.5}
    assert comparison.shared_scale(MAGMAX) == 0.7  # 56 % on the mean, 55 at 0.5
    assert comparison.shared_scale(EMA) == 1.0
    assert comparison.shared_scale(EMA, [ON_PACS]) == 0.7
    assert comparison.shared_scale(TSV) == 0.7  # the smaller of two equally good ones
    assert comparison.scale(MAGMAX, "published", comparison.trained[0]) == 0.5


def test_differences_are_paired_over_seeds(comparison):
    """Hand-computed: 5, 5, 8 points on one benchmark and 2, 1, 0 on the other."""
    found = comparison.difference(EMA, "shared")
    assert found.by_benchmark[ON_CIFAR] == pytest.approx((0.06, 0.01, 3))
    assert found.by_benchmark[ON_PACS] == pytest.approx((0.01, 0.01 / math.sqrt(3), 3))
    assert found.mean == pytest.approx((0.035, 0.01 / math.sqrt(3), 6))
    assert (found.wins, found.pairs, found.worse) == (5, 6, [])
    itself = comparison.difference(MAGMAX, "shared")
    assert itself.mean.mean == pytest.approx(-0.004) and itself.worse == [ON_PACS]


def test_the_recommended_recipe_keeps_a_state_of_constant_size(comparison):
    assert comparison.recommended() == EMA
    assert comparison.recommended(streaming=False) == TSV


def test_a_recipe_that_loses_a_benchmark_is_not_recommended(tmp_path):
    """It is the best on average."""
    uneven = {
        "class": VALIDATED["class"] | {"min_magnitude": {0.5: 0.9}},
        "domain": VALIDATED["domain"] | {"min_magnitude": {0.5: 0.59}},
    }
    for scenario in (CIFAR, PACS):
        rules = uneven[scenario.kind]
        write_run(tmp_path / scenario.kind, scenario, 1, validated=rules, tested=False)
    found = compared(tmp_path)
    assert found.difference(MIN, "shared", "validation").mean.mean == pytest.approx(0.175)
    assert found.recommended() == EMA
    assert found.recommended([ON_CIFAR]) == MIN


def test_a_recipe_with_fewer_seeds_is_named_and_not_recommended(runs, tmp_path):
    write_all(tmp_path / "runs")
    better = {"max_magnitude": {0.5: 0.6}, "ema": {1.0: 0.9}}
    method = MethodConfig(start="ema")
    for scenario in (CIFAR, PACS):
        folder = tmp_path / "runs" / f"other-{scenario.kind}"
        write_run(folder, scenario, SEEDS[0], method, validated=better)
    found = compared(tmp_path / "runs")
    assert found.recommended() == EMA
    assert found.recommended(every_seed=False) == Recipe("ema", "ema")
    text = sentences(written(tmp_path / "runs", tmp_path, "--no-evaluate"))
    assert "**Start `last`, rule `ema` at scale 1** is the constant-memory recipe" in text
    assert (
        "Start `ema`, rule `ema` at scale 1 is at +33.0 points on validation images, with 2 of 6"
        in text
    )


def test_benchmarks_are_recognised_wherever_their_data_is(tmp_path):
    write_run(tmp_path / "a", PACS, 1)
    write_run(tmp_path / "b", replace(PACS, data_dir="/elsewhere/pacs"), 2)
    write_run(tmp_path / "c", replace(PACS, order="random"), 1)
    plain, drawn = compared(tmp_path).benchmarks
    assert plain == f"{ON_PACS} (scenario.order published)"
    assert drawn == f"{ON_PACS} (scenario.order random)"


def test_situations_group_benchmarks_by_kind_and_number_of_tasks(tmp_path):
    for number, scenario in enumerate((CIFAR, replace(CIFAR, num_tasks=10), PACS)):
        write_run(tmp_path / str(number), scenario, 1)
    found = {each.title: len(each.benchmarks) for each in situations(compared(tmp_path))}
    assert found == {
        "all benchmarks": 3,
        "class-incremental": 2,
        "cifar100, 5 tasks": 1,
        "cifar100, 10 tasks": 1,
        "pacs, domains": 1,
    }


def test_the_page_says_which_recipe_is_best_and_by_how_much(runs, tmp_path):
    page = written(runs, tmp_path, "--no-evaluate")
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 100
    text = sentences(page)
    assert "**Start `last`, rule `ema` at scale 1** is the constant-memory recipe" in text
    assert "where it is +4.0 ± 0.0 points from MagMax" in text  # 60 and 62 to 54 and 60 %
    verdict = (
        "On test images it is 3.5 ± 0.6 points above MagMax at its best scale, and above it in "
        f"5 of 6 pairs of trainings; from +1.0 ± 0.6 on {ON_PACS} to +6.0 ± 1.0 on {ON_CIFAR}. "
        "It is more than 0.5 points below MagMax on no benchmark."
    )
    assert verdict in text
    lines = [line for line in page.splitlines() if line.startswith("| last | `ema`")]
    assert lines[0] == (
        "| last | `ema` | constant | 1 | 59.0 ± 0.8 | +3.5 ± 0.6 | 5 of 6 | "
        "57.0 ± 1.5 (+6.0 ± 1.0) | 61.0 ± 0.6 (+1.0 ± 0.6) |"
    )
    lost = f"| last | `min_magnitude` | constant | 1 | 40.0 ± 0.0 | {MINUS}15.5 ± 0.3 | 0 of 6 |"
    assert lost in text and f"({MINUS}20.0 ± 0.0) ↓ |" in text
    assert f"rule `min_magnitude` ({MINUS}15.5)" in text  # what did not work
    by_scale = text[text.index("## What the scale does") : text.index("## What did not work")]
    assert "| last | `max_magnitude` | 0.7 | 56.0 " in by_scale  # chosen like the shared scale
    assert by_scale.index("| last | `max_magnitude`") < by_scale.index("| last | `ema` | 1 | 61.0")
    assert "`min_magnitude`" not in by_scale
    assert "| all |  | 6 |  | 3.00 |" in page  # two steps of a quarter of an hour each
    assert f"80 of {ON_CIFAR}" not in text and f"20 of {ON_CIFAR}" in text
    assert (tmp_path / "docs" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_starts_are_compared_where_several_were_trained(runs, tmp_path):
    assert "## Where to start" not in written(runs, tmp_path, "--no-evaluate")
    write_all(tmp_path / "runs")
    for seed in SEEDS:
        method = MethodConfig(start="pretrained")
        write_run(tmp_path / "runs" / "other" / str(seed), PACS, seed, method)
    page = written(tmp_path / "runs", tmp_path, "--no-evaluate")
    section = page[page.index("## Where to start") : page.index("## Every recipe at one scale")]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == "| benchmark | start | none: last fine-tuned | `max_magnitude` | `ema` |"
    assert lines[2:] == [
        f"| {ON_PACS} | {start} | 45.0 ± 0.0 ({MINUS}15.0 ± 0.0) | 60.0 ± 0.0 (0.0 ± 0.0) "
        "| 64.0 ± 0.6 (+4.0 ± 0.6) |"
        for start in ("last", "pretrained")
    ]


def test_a_difference_within_its_error_may_be_chance(tmp_path):
    better = {"max_magnitude": {0.5: 0.5}, "ema": {1.0: 0.6}}
    for seed in SEEDS[:2]:
        write_run(tmp_path / str(seed), PACS, seed, validated=better)
    # Differences of 2 and 1 points: 1.5, with an error of 0.5.
    assert "it may be chance" not in sentences(written(tmp_path, tmp_path, "--no-evaluate"))
    write_run(tmp_path / "3", PACS, 3, validated=better)
    third = RunDirectory(tmp_path / "3")
    low = [row for row in third.swept() if (row.model, row.split) != ("ema", "test")]
    third.keep_swept([*low, *evaluated("ema", 1.0, 0.57)])
    # 2, 1 and -3 points.
    text = sentences(written(tmp_path, tmp_path, "--no-evaluate"))
    assert "it is 0.0 ± 1.5 points" in text and "it may be chance" in text


def test_without_a_better_recipe_the_page_says_so(tmp_path):
    worse = {"max_magnitude": {0.5: 0.6}, "ema": {1.0: 0.5}}
    write_run(tmp_path / "run", PACS, 1, validated=worse)
    text = sentences(written(tmp_path, tmp_path, "--no-evaluate"))
    assert "no constant-memory recipe is better than MagMax itself" in text


def test_test_images_are_evaluated_at_chosen_and_published_scales_only(tmp_path, monkeypatch):
    """And only after every scale is chosen."""
    write_all(tmp_path, tested=False)
    asked = []

    def evaluate(run, config, sweeps, progress, allow_changed):
        directory = RunDirectory(run)
        for sweep in sweeps:
            split = "test" if sweep.test == "all" else "validation"
            for rule, scales in scales_of(sweep).items():
                asked.append((run.parent.name, split, rule, tuple(scales)))
                rows = [row for scale in scales for row in evaluated(rule, scale, 0.5, split)]
                directory.keep_swept([*directory.swept(), *rows])

    monkeypatch.setattr("magmax_jax.api.sweep_run.sweep_run", evaluate)
    monkeypatch.setattr("magmax_jax.runs.locate.stored_config", lambda run: CONFIG)
    monkeypatch.setattr("magmax_jax.cli.engine.Engine.start", lambda self: None)
    first = written(tmp_path, tmp_path)
    scales = {(where, rule): values for where, split, rule, values in asked if split == "test"}
    assert scales == {
        ("cifar", "max_magnitude"): (0.7,),  # the run itself already evaluated 0.5
        ("cifar", "ema"): (1.0,),
        ("cifar", "tsv_m"): (0.7, 1.0),
        ("cifar", "min_magnitude"): (0.5, 1.0),
        ("pacs", "max_magnitude"): (0.7,),
        ("pacs", "ema"): (0.7, 1.0),
        ("pacs", "tsv_m"): (0.7, 1.0),
        ("pacs", "min_magnitude"): (0.5, 1.0),
    }
    assert [split for _, split, _, _ in asked] == ["test"] * len(asked)
    asked.clear()
    assert written(tmp_path, tmp_path) == first and not asked


def test_published_scales_are_validated_before_scales_are_chosen(tmp_path):
    write_run(tmp_path / "run", PACS, 1, validated={"max_magnitude": {0.7: 0.6}, "ema": {1.0: 0.5}})
    found = compared(tmp_path)
    assert list(found.unvalidated().values()) == [{"max_magnitude": [0.5]}]


def test_validation_results_are_shown_without_evaluating_test_images(tmp_path, capsys):
    write_all(tmp_path, tested=False)
    assert exit_code(lambda: main([str(tmp_path), "--split", "validation"])) == 0
    shown = capsys.readouterr().out
    assert "| last | `ema` | constant | 1 | 61.0 ± 0.0 | +4.0 ± 0.0 | 6 of 6 |" in shown
    assert shown.endswith("chosen on validation images: start `last`, rule `ema` at scale 1\n")


def test_incomparable_runs_are_left_out_and_named(runs, tmp_path, capsys):
    write_run(tmp_path / "good", PACS, 1)
    write_run(tmp_path / "twin", PACS, 1)
    write_run(tmp_path / "ewc", PACS, 1, MethodConfig(regularizer="ewc"))
    write_run(tmp_path / "alone", PACS, 1, MethodConfig(sequential=False))
    unswept = write_run(tmp_path / "unswept", PACS, 2)
    unswept.keep_swept([])
    text = written(tmp_path, tmp_path, "--no-evaluate")
    assert text.count("| pretrained | `ema` |") >= 2
    notes = capsys.readouterr().err
    for why in (
        "the same as",
        "with a penalty against forgetting",
        "no scales were swept on validation images",
    ):
        assert why in notes
    assert exit_code(lambda: main([str(unswept.path)])) == 2
    assert "sweep one with --sweep.rules" in capsys.readouterr().err


def test_a_report_of_several_swept_runs_compares_their_recipes(tmp_path):
    for seed in SEEDS:
        write_run(tmp_path / str(seed), PACS, seed)
    group, *_ = grouped(find([tmp_path])[0])
    table, figure = REPORT_SECTIONS["recipes"].items(group)
    lines = {record["rule"]: record for record in table.records}
    ema = lines["ema"]
    assert (ema["scale"], ema["memory"], ema["wins"], ema["pairs"]) == (0.7, "constant", 3, 3)
    assert ema["accuracy"] == pytest.approx(0.64) and ema["difference"] == pytest.approx(0.04)
    assert ema["difference_error"] == pytest.approx(0.01 / math.sqrt(3))
    assert lines["zero-shot"]["scale"] is None and len(figure.records) == len(lines)
    axes = Figure().subplots()
    figure.draw(axes)
    assert "ema @ 0.7, start last (recommended)" in [t.get_text() for t in axes.get_yticklabels()]
    [alone] = grouped(find([tmp_path / "1"])[0])
    assert REPORT_SECTIONS["recipes"].items(alone) == []
