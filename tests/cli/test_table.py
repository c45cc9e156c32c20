"""`python -m experiments.table`: where each run appears, in three formats."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from magmax_jax.cli.table import _escaped, main
from magmax_jax.config import (
    ExperimentConfig,
    MergingConfig,
    MeshConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import exit_code
from magmax_jax.evaluation.rows import Row
from magmax_jax.report.paper_table import mean_std
from magmax_jax.report.published_figures import figures
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import num_models

CIFAR = ExperimentConfig(
    scenario=ScenarioConfig(num_tasks=10), merges=("average", "max_magnitude", "max_magnitude@1")
)
GROUPS = [f"task {i}" for i in range(1, 11)]


def write(
    path: Path, config: ExperimentConfig, groups=GROUPS, aware=0.9, swept=(), **accuracies
) -> None:
    """Writes a finished run; accuracy of each model (by label) in every group."""
    run = RunDirectory(path)
    run.start(config)
    tasks = 1 if config.method.joint else len(groups)
    labels = ["finetuned", *accuracies] if "finetuned" not in accuracies else [*accuracies]
    models = [("zero_shot", None, 0)]
    for after in range(1, tasks + 1):
        for label in labels:
            if label != "zero_shot":
                name, _, scale = label.partition("@")
                models.append((name, float(scale) if scale else None, after))
    for name, scale, after in models:
        label = name if scale is None else f"{name}@{scale:g}"
        accuracy = accuracies.get(label, 0.5)
        run.append(
            Row(after, name, scale, protocol, group, value, 10)
            for protocol, value in (("agnostic", accuracy), ("aware", aware))
            for group in ["all", *groups]
        )
    run.keep_swept(swept)
    assert run.is_complete(config, num_models(config))


@pytest.fixture
def runs(tmp_path) -> Path:
    merges = {"average@1": 0.7, "max_magnitude@1": 0.2}
    for seed, best in ((1, 0.78), (2, 0.80)):
        config = replace(CIFAR, seed=seed)
        write(
            tmp_path / f"s{seed}", config, **{"max_magnitude@0.5": best, "finetuned": 0.6, **merges}
        )
    alone = replace(CIFAR, method=MethodConfig(sequential=False), mesh=MeshConfig(data=1))
    write(tmp_path / "deep" / "er" / "i", alone, **{"max_magnitude@0.5": 0.75, **merges})
    ewc = replace(CIFAR, method=MethodConfig(regularizer="ewc", fisher="accumulated"), merges=())
    write(tmp_path / "ewc", ewc)
    sampled = replace(ewc, method=replace(ewc.method, fisher_images=500))
    write(tmp_path / "sampled", sampled)
    joint = replace(CIFAR, method=MethodConfig(joint=True), merges=())
    write(tmp_path / "joint", joint, finetuned=0.88)
    five = replace(CIFAR, scenario=ScenarioConfig(num_tasks=5), merges=())
    write(tmp_path / "five", five, GROUPS[:5], finetuned=0.65)
    eight = ScenarioConfig(kind="datasets", datasets=("eight",))
    write(tmp_path / "eight", replace(CIFAR, scenario=eight, merges=()), ["cars", "dtd"], aware=0.8)
    return tmp_path


def shown(capsys, *argv) -> str:
    assert exit_code(lambda: main([str(word) for word in argv])) == 0
    return capsys.readouterr().out


def test_markdown_has_the_papers_rows_and_the_published_figures(runs, capsys):
    lines = shown(capsys, runs).splitlines()
    assert lines[0] == "| method | cifar100, 5 tasks | cifar100, 10 tasks | 8 data sets |"
    table = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert [*table][:11] == [
        "zero-shot",
        "joint",
        "EWC (Fisher accumulated)",
        "EWC (Fisher accumulated, Fisher images 500)",
        "sequential fine-tuning",
        "independent, average",
        "independent, MagMax",
        "independent, MagMax at 1",
        "sequential, average",
        "sequential, MagMax",
        "sequential, MagMax at 1",
    ]
    assert table["joint"] == "| joint | 88.0 (1) | 88.0 (1) |  |"  # one training, every column
    assert table["sequential, MagMax"] == "| sequential, MagMax |  | 79.0 ± 1.4 (2) [79.0]¹ |  |"
    ours = "| sequential fine-tuning | 65.0 (1) | 60.0 ± 0.0 (2) | 80.0 (1) [82.9]² |"
    assert table["sequential fine-tuning"] == ours
    assert any(line.startswith("¹ secondary source: ViT-B/16") for line in lines)
    assert any(line.startswith("² secondary source and another setting") for line in lines)


def test_the_scale_chosen_by_each_seed_has_its_own_row(tmp_path, capsys):
    validated = replace(CIFAR.scenario, validation=0.1)
    for seed, scale, accuracy in ((1, 0.3, 0.6), (2, 0.7, 0.8), (3, 0.5, 0.4)):
        merging = MergingConfig(scales="0.3,0.7") if seed == 1 else MergingConfig()
        config = replace(
            CIFAR, scenario=validated, merges=("max_magnitude",), merging=merging, seed=seed
        )
        path = tmp_path / f"s{seed}"
        swept = [
            Row(10, "max_magnitude", scale, "agnostic", group, accuracy, 10, None, split, chosen)
            for group in ["all", *GROUPS]
            for split, chosen in (("test", "validation"), ("validation", None))
        ]
        write(path, config, swept=swept, **{"max_magnitude@0.5": 0.4})
        (path / "about.json").write_text('{"published_scales": {"max_magnitude": 0.5}}')
    table = dict(
        line.strip("| ").split(" | ", 1) for line in shown(capsys, tmp_path).splitlines()[2:6]
    )
    assert table["sequential, MagMax"] == "40.0 ± 0.0 (3)"
    chosen = "sequential, MagMax, scale chosen on held-out images"
    assert table[chosen] == "60.0 ± 20.0 (3)"
    assert not any(row.startswith("sequential, MagMax at") for row in table)


def test_published_figures_are_omitted_for_another_model_or_partial_data():
    assert figures(CIFAR)["sequential, MagMax"].percent == 79.0
    assert figures(replace(CIFAR, model=ModelConfig("/models/CLIP-ViT-Base-Patch16")))
    assert not figures(replace(CIFAR, model=ModelConfig("openai/clip-vit-base-patch32")))
    tower = ModelConfig("someone/clip-vit-base-patch16_sun397", text_source="some/clip")
    assert not figures(replace(CIFAR, model=tower))
    assert not figures(replace(CIFAR, scenario=ScenarioConfig(limit_per_class=3)))
    assert not figures(replace(CIFAR, scenario=ScenarioConfig(order="random")))
    assert not figures(replace(CIFAR, train=TrainConfig(epochs=1)))


def test_csv_has_one_line_per_value(runs, capsys):
    lines = list(csv.DictReader(io.StringIO(shown(capsys, runs, "--format", "csv"))))
    [line] = [x for x in lines if x["method"] == "sequential, MagMax"]
    assert line["setting"] == "cifar100, 10 tasks" and line["seeds"] == "2"
    assert float(line["mean"]) == pytest.approx(79) and float(line["std"]) == pytest.approx(2**0.5)
    assert line["published"] == "79.0" and "secondary" in line["source"]


def test_latex_looks_valid(runs, capsys):
    text = shown(capsys, runs, "--format", "latex")
    assert "$79.0 \\pm 1.4$ [79.0$^{1}$]" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len({line.count("&") for line in rows}) == 1
    assert text.count("{") == text.count("}") and "_" not in text.replace("\\_", "")


def test_latex_commands_in_names_are_escaped():
    assert _escaped(r"a_b & 5% $x$ #1 {y} \input{z} ~^") == (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textbackslash{}input\{z\} "
        r"\textasciitilde{}\textasciicircum{}"
    )


def test_forgetting_and_another_protocol(runs, capsys):
    text = shown(capsys, runs, "--metric", "forgetting")
    assert "forgetting, points" in text and "| sequential, average |  | 0.0 ± 0.0 (2) |  |" in text
    assert "[79.0]" not in text and "joint" not in text
    assert "90.0 ± 0.0 (2)" in shown(capsys, runs, "--protocol", "aware")


def test_aware_accuracies_are_not_reused_for_another_number_of_tasks(tmp_path, capsys):
    """With 2 classes per task (50 tasks) joint training scores higher than with 20 (5 tasks)."""
    for number, aware in ((5, 0.7), (10, 0.99)):
        config = replace(CIFAR, scenario=ScenarioConfig(num_tasks=number), merges=())
        write(tmp_path / str(number), config, GROUPS[:number], aware=aware)
    joint = replace(CIFAR, method=MethodConfig(joint=True), merges=())
    write(tmp_path / "joint", joint, aware=0.95)
    lines = shown(capsys, tmp_path, "--protocol", "aware").splitlines()
    assert "| zero-shot | 70.0 (1) | 99.0 (1) |" in lines  # not the joint run's
    assert "| joint |  | 95.0 (1) |" in lines
    assert "| joint | 50.0 (1) | 50.0 (1) |" in shown(capsys, tmp_path).splitlines()


def test_independent_and_sequential_pulls_have_separate_rows(tmp_path, capsys):
    for sequential in (True, False):
        method = MethodConfig(sequential, "l2_sp", 0.1)
        config = replace(CIFAR, method=method, merges=())
        write(tmp_path / str(sequential), config, finetuned=0.6 + 0.1 * sequential)
    lines = shown(capsys, tmp_path).splitlines()
    assert "| L2-SP (strength 0.1) | 70.0 (1) |" in lines
    assert "| L2-SP, independent (strength 0.1) | 60.0 (1) |" in lines


def test_starts_have_separate_rows_and_their_code_is_not_imported(tmp_path, capsys):
    accuracies = {"finetuned": 0.7, "average@1": 0.6}
    merges, starts = ("average",), ("ema@1", "nowhere:rule@0.5")
    for start in starts:
        method, run = MethodConfig(start=start), RunDirectory(tmp_path / start)
        write(run.path, replace(CIFAR, merges=merges), **accuracies)
        (run.path / "config.json").write_text(
            replace(CIFAR, method=method, merges=merges).to_json()
        )
        run.about.write_text('{"models": 2}')
    lines = shown(capsys, tmp_path).splitlines()
    for start in starts:
        assert f"| start {start}, fine-tuning | 70.0 (1) |" in lines
        assert f"| start {start}, average | 60.0 (1) |" in lines


def test_settings_with_one_name_are_distinguished(tmp_path, capsys):
    for epochs in (1, 2):
        config = replace(CIFAR, train=replace(CIFAR.train, epochs=epochs), merges=())
        write(tmp_path / str(epochs), config)
    head = shown(capsys, tmp_path).splitlines()[0]
    assert "| cifar100, 10 tasks (train.epochs 1) | cifar100, 10 tasks (train.epochs 2) |" in head


def test_unfinished_runs_are_left_out_and_named(runs, capsys):
    rows = runs / "s2" / "results.jsonl"
    rows.write_text(rows.read_text()[:-30])
    (runs / "five" / "config.json").write_text("{")
    main([str(runs)])
    out, error = capsys.readouterr()
    assert "[79.0]" in out and "5 tasks" not in out
    assert f"left out, not finished: {runs / 's2'}" in error and "five" in error


def test_a_file_is_written_atomically(runs, tmp_path, capsys):
    assert shown(capsys, runs, "--output", tmp_path / "table.md") == ""
    assert (tmp_path / "table.md").read_text() == shown(capsys, runs)
    command = [str(runs), "--output", str(tmp_path / "none" / "table.md")]
    assert exit_code(lambda: main(command)) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [([], "no RUNS"), (["nowhere"], "no such folder"), (["."], "no finished run")],
)
def test_invalid_input_gives_a_one_sentence_error(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_code(lambda: main(argv)) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1


def test_the_deviation_is_the_sample_standard_deviation():
    assert mean_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5), 2)
    assert mean_std([4.0]) == (4.0, None, 1)
