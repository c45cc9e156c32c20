"""`python -m experiments.grid`: which cells exist, which run, and how they end."""

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import experiments
from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid import command as grids
from magmax_jax.cli.grid.command import main, parse, select
from magmax_jax.cli.grid.settings import GRIDS, Cell, Grid, smoke
from magmax_jax.cli.grid.settings.cell import stream
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import Program, exit_code
from magmax_jax.evaluation.rows import Row
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import num_models
from tests.cli import has_trained

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(tiny_clip, monkeypatch):
    """A small grid with one setting: digits in 2 tasks with a dummy model."""
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8),
        eval_batch_size=32,
    )

    def cells() -> list[Cell]:
        """Cells without merges."""
        return [replace(c, config=replace(c.config, merges=())) for c in stream("digits", config)]

    monkeypatch.setitem(GRIDS, "small", Grid("small", (cells,), seeds=(1,)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return cells


def refused(capsys, *argv: str) -> str:
    """The one-sentence error for a command line."""
    assert exit_code(lambda: main(list(argv))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def chosen(*argv: str) -> list[Cell]:
    return select(*parse(list(argv)))


def test_grids_hold_all_methods_and_merges_of_the_paper():
    names = {f"{cell.setting}/{cell.method}" for cell in GRIDS["all"].cells(None)}
    for dataset, nums_tasks in (
        ("cifar100", (5, 10, 20, 50)),
        ("imagenet_r", (5, 10, 20, 50)),
        ("cub200", (5, 10, 20)),
        ("cars", (5, 10, 20)),
    ):
        settings = {name.split("/")[0] for name in names if name.startswith(f"{dataset}-")}
        assert {f"{dataset}-{n}" for n in nums_tasks} <= settings
        assert f"{dataset}/joint" in names
    methods = ("sequential", "independent", "ewc", "lwf")
    for setting in ("cifar100-10", "imagenet_r-domains", "domainnet-domains", "eight"):
        assert {f"{setting}/{method}" for method in methods} <= names
    parts = [GRIDS[n].cells(None) for n in ("class-incremental", "domain-incremental")]
    shared = {c.config for c in parts[0]} & {c.config for c in parts[1]}
    assert [c.name for c in parts[0] if c.config in shared] == ["imagenet_r/joint/seed-5"]
    assert len(GRIDS["all"].cells(None)) == len({c.digest for c in GRIDS["all"].cells(None)})


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_states_expected_figures_and_its_cost(name):
    for setting in GRIDS[name].settings:
        assert "Expected" in setting.__doc__ and "Cost per seed" in setting.__doc__


def test_a_cell_is_identified_by_its_whole_configuration():
    cell = GRIDS["all"].cells(None)[0]
    assert cell.name == "cifar100-5/sequential/seed-5"
    assert cell.digest == Cell("other", "name", replace(cell.config)).digest
    changed = replace(cell.config, train=TrainConfig(weight_decay=0.2))
    assert cell.digest != replace(cell, config=changed).digest != cell.with_seed(1).digest
    assert cell.directory(Path("out")) == Path("out/cifar100-5/sequential/seed-5", cell.digest)


def test_runs_older_than_a_field_are_found():
    cell = GRIDS["all"].cells(None)[0]
    assert cell.digest == "9daf8128b162"  # as before `model.text_source`
    completed = replace(cell.config, model=replace(cell.config.model, text_source="some/clip"))
    assert replace(cell, config=completed).digest != cell.digest


def test_over_time_has_every_benchmark_with_every_start(tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "BESIDE", tmp_path / "nowhere")
    bundled = {cell.setting for cell in GRIDS["over-time"].cells(None)}
    assert bundled == {"digits-5", "digits-styles"}
    for name in (smoke.MODEL, f"{smoke.DATA}/cifar100", smoke.PACS):
        (tmp_path / "shared" / name).mkdir(parents=True)
    cells = GRIDS["over-time"].cells(tmp_path / "shared")
    settings = ["cifar100-5", "cifar100-10", "pacs-domains", "pacs-domains-random", "digits-5"]
    starts = ["last", "pretrained", "ema", "max_magnitude"]
    assert [(c.setting, c.method) for c in cells] == [
        (s, start) for s in settings for start in starts
    ]
    assert all(cell.config.method.starts_from == cell.method for cell in cells)
    assert all(c.config.scenario.validation and c.config.checkpoint.keep_tasks for c in cells)


def test_a_cell_is_done_when_its_sweep_is(tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "BESIDE", tmp_path / "nowhere")
    monkeypatch.setattr(RunDirectory, "is_complete", lambda *_: True)
    flags = ["--sweep.rules", "average", "ema", "--sweep.scales", "0.5,1"]
    [cell] = chosen("over-time", "--seeds", "1", "--only", "digits-5/last", *flags)
    command = one.command(Program("magmax "), cell, tmp_path)
    assert command[-7:] == [*flags, "--sweep.test", "later"]
    assert one.state(cell, tmp_path) == "to do"
    directory = RunDirectory(cell.directory(tmp_path))
    directory.path.mkdir(parents=True)
    rows = [
        Row(5, rule, scale, "agnostic", "all", 0.5, 9, split="validation")
        for rule in ("average", "ema")
        for scale in (0.5, 1.0)
    ]
    directory.keep_swept(rows[:3])
    assert one.state(cell, tmp_path) == "to do"
    directory.keep_swept(rows)
    assert one.state(cell, tmp_path) == "done"
    assert [c.sweep.rules for c in chosen("smoke", "--seeds", "1", "--only", "joint", *flags)] == [
        ()
    ] * 2  # joint training merges nothing


def test_seeds_patterns_and_fields_choose_and_change_cells(small):
    cells = chosen("small", "--seeds", "1,2", "--only", "*/ewc/*", "--train.epochs", "3")
    assert [cell.name for cell in cells] == ["digits/ewc/seed-1", "digits/ewc/seed-2"]
    assert [(c.config.seed, c.config.train.epochs) for c in cells] == [(1, 3), (2, 3)]
    assert {cell.config.method.regularizer for cell in cells} == {"ewc"}
    assert [cell.name for cell in chosen("small", "--only", "lwf")] == ["digits/lwf/seed-1"]
    [cell] = chosen("all", "--preset", "paper", "--only", "cifar100-5/ewc/*")
    assert (cell.config.method.fisher, cell.config.merging.ties_entries) == ("accumulated", "clip")
    [cell] = chosen("all", "--preset", "paper", "--only", "domainnet-domains/sequential/*")
    assert cell.config.merging.average_divisor == "two"


def test_fields_change_the_chosen_cells_and_none_runs_twice(small, capsys):
    [cell] = chosen("small", "--only", "ewc", "--method.strength", "1e5")
    assert cell.config.method.strength == 1e5
    cells = chosen("all", "--only", "cifar100-*/lwf/*", "--scenario.num-tasks", "10")
    assert [cell.name for cell in cells] == ["cifar100-5/lwf/seed-5"]
    printed = capsys.readouterr().err
    assert "cifar100-50/lwf/seed-5 now equals cifar100-5/lwf/seed-5, so it is left out" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["smoky"], "'smoky' is not a grid: choose from class-incremental, "),
        (["all", "--only", "imagenet_x"], "matches no cell: there are cars-10/ewc"),
        (["all", "--seeds", "1;2"], "write numbers separated by commas"),
        (["all", "--seeds", "-1"], "must be at least 0"),
        (["all", "--seeds", "1,4294967296"], "below 2^32 = 4294967296"),
        (["all", "--seed", "3"], "a grid takes --seeds"),
        (["all", "--assets", "there"], "--assets is for smoke"),
        (["smoke", "--assets", "there"], "--assets there lacks models/clip-vit-tiny"),
        (["all", "--jobs", "2"], "need --launcher"),
        (["all", "--launcher", "local", "--nodes", "2"], "--launcher slurm"),
        (["all", "--launcher", "local", "--mem-gb", "2"], "--launcher slurm"),
        (["all", "--timeout-min", "60"], "--launcher slurm"),
        (["all", "--launcher", "slurm", "--slurm", "account"], "give KEY=VALUE"),
        (["all", "--launcher", "local", "--jobs", "0"], "must be positive"),
        (["all", "--out", "/proc/none"], "/proc/none"),
        (["all", "--out", "/proc/none", "--launcher", "local"], "/proc/none"),
    ],
)
def test_invalid_input_gives_a_one_sentence_error(argv, message, capsys):
    assert message in refused(capsys, *argv)


def test_a_wrong_field_exits_with_two(capsys):
    for flag in ("--train.epoch=3", "--wrong"):
        with pytest.raises(SystemExit) as ended:
            main(["smoke", "--dry-run", flag])
        assert ended.value.code == 2
    capsys.readouterr()
    assert "train.epochs is -1" in refused(capsys, "smoke", "--dry-run", "--train.epochs=-1")


def test_help_lists_the_grids_and_what_one_holds(capsys):
    for argv, words in (([], [*GRIDS]), (["all", "--help"], ["79.0 %", "--seeds", "--partition"])):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words)


def test_a_dry_run_describes_only_its_cells_and_says_how_to_prepare_the_data(tmp_path, capsys):
    argv = ["class-incremental", "--only", "cub200-5/ewc/*", "--out", str(tmp_path)]
    main([*argv, "--scenario.data-dir", str(tmp_path / "data"), "--dry-run"], experiments.PROGRAM)
    shown = capsys.readouterr().out
    assert "CUB-200 in 5, 10 and 20 tasks" in shown and "ImageNet-R" not in shown
    assert (
        f"set --scenario.data-dir to the directory that holds it, or prepare it: run python -m "
        f"experiments.prepare cub200 --data-dir {tmp_path / 'data'}\n"
    ) in shown


def test_a_dry_run_shows_the_jobs_that_slurm_would_get(tmp_path, capsys):
    argv = ["smoke", "--only", "*/joint/*", "--seeds", "1", "--out", str(tmp_path), "--dry-run"]
    main([*argv, "--launcher", "slurm", "--gpus-per-node", "8"])
    shown = capsys.readouterr().out
    assert "  #SBATCH --gpus-per-node=8\n" in shown and "  #SBATCH --ntasks-per-node=1\n" in shown
    assert "\neach job runs 1 process with the command of its cell; for " in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_finished_cells_are_skipped_and_changed_ones_run_again(small, tmp_path, capsys):
    argv = ["small", "--only", "digits/[se]*", "--out", str(tmp_path)]
    main(argv, experiments.PROGRAM)
    shown = capsys.readouterr().out
    assert "[2/2] digits/ewc/seed-1" in shown and "$ python -m experiments.run --config" in shown
    [cell, other] = chosen(*argv)
    assert one.state(cell, tmp_path) == one.state(other, tmp_path) == "done"
    rows = (cell.directory(tmp_path) / "results.jsonl").read_text()
    main(argv)
    assert "2 cells, 2 of them done" in capsys.readouterr().out

    # Interrupted after training: it resumes from the checkpoint and ends with the same rows.
    (cell.directory(tmp_path) / "results.jsonl").write_text(rows[: len(rows) // 2])
    assert one.state(cell, tmp_path) == "interrupted"
    main([*argv, "--dry-run"])
    shown = capsys.readouterr().out
    assert "interrupted" in shown and "done" in shown and "all (2)" in shown
    main(argv)
    assert (cell.directory(tmp_path) / "results.jsonl").read_text() == rows

    changed = [*argv, "--train.learning-rate", "1e-4"]
    assert {one.state(cell, tmp_path) for cell in chosen(*changed)} == {"to do"}


@pytest.mark.slow
def test_a_failed_cell_is_reported_and_the_others_run(small, tmp_path, capsys):
    broken = replace(small()[0], setting="broken").with_seed(1)
    config = replace(broken.config, model=ModelConfig(str(tmp_path / "nowhere")))
    broken = replace(broken, config=config)
    good = small()[0].with_seed(1)
    outcomes = grids.run_here([broken, good], tmp_path / "out")
    assert [outcome.failed for outcome in outcomes.values()] == [True, False]
    assert grids.report(outcomes, tmp_path / "out") == [broken]
    error = capsys.readouterr().err
    assert "1 of 2 cells failed:\n  broken/sequential/seed-1: " in error
    assert "nowhere" in outcomes[broken].reason and "Traceback" not in error
    assert one.state(good, tmp_path / "out") == "done"


@pytest.mark.slow
def test_a_grid_with_a_failed_cell_exits_with_one(small, tmp_path):
    argv = ["small", "--only", "sequential", "--out", str(tmp_path), "--train.learning-rate=1e30"]
    with pytest.raises(SystemExit) as ended:
        main([*argv, "--train.warmup-steps=0"])
    assert ended.value.code == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_signal_the_cell_saves_and_the_grid_says_how_to_resume(number, tmp_path, tiny_clip):
    argv = f"smoke --only sequential/seed-1 --model.source {tiny_clip} --model.image-size None"
    scenario = "--scenario.kind class --scenario.dataset digits --scenario.num-tasks 5"
    command = [sys.executable, "-m", "experiments.grid", *argv.split(), *scenario.split()]
    command += ["--train.epochs", "500", "--out", str(tmp_path)]
    grid = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not has_trained(tmp_path):
        time.sleep(0.2)
    assert has_trained(tmp_path), grid.poll()
    grid.send_signal(number)
    _, error = grid.communicate(timeout=120)
    assert grid.returncode == 128 + number, error
    assert "continue with: python -m experiments.grid smoke --only" in error
    [directory] = [path.parent for path in tmp_path.rglob("results.jsonl")]
    saved = [p for p in (directory / "checkpoints").iterdir() if p.name.isdigit()]
    assert len(saved) == 1  # in the first task, and no other cell has started
    assert os.listdir(directory.parents[2]) == ["sequential"]


def test_a_cell_never_runs_twice_at_the_same_time(small, tmp_path):
    cell = small()[0].with_seed(1)
    one.prepare(cell, tmp_path)
    with one.relayed() as relay, one.lock_of(cell, tmp_path).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert one.state(cell, tmp_path) == "running"
        outcome = relay.run(["false"], one.lock_of(cell, tmp_path))
        assert outcome.code == one.ELSEWHERE and not outcome.failed
    assert one.state(cell, tmp_path) == "to do"


def test_the_last_line_of_a_process_is_the_reason_for_its_failure(tmp_path, capfd):
    with one.relayed() as relay:
        script = "import sys; print('first\\nValueError: last', file=sys.stderr); sys.exit(3)"
        outcome = relay.run([sys.executable, "-c", script], None)
        assert (outcome.code, outcome.reason) == (3, "ValueError: last")
        killed = "import os; os.kill(os.getpid(), 9)"
        outcome = relay.run([sys.executable, "-c", killed], None)
        assert outcome.failed and "SIGKILL" in outcome.reason
    assert "first" in capfd.readouterr().err


def test_smoke_uses_bundled_data_if_there_are_no_assets(monkeypatch, tmp_path):
    from magmax_jax.cli.grid.settings import smoke

    monkeypatch.setattr(smoke, "BESIDE", tmp_path)
    cells = GRIDS["smoke"].cells(None)
    assert {cell.setting for cell in cells} == {"digits-5", "digits-styles"} and len(cells) == 10
    for name in (smoke.MODEL, f"{smoke.DATA}/cifar100", smoke.PACS):
        (tmp_path / name).mkdir(parents=True)
    for cells in (GRIDS["smoke"].cells(None), GRIDS["smoke"].cells(tmp_path)):
        assert {cell.setting for cell in cells} == {"cifar100-5", "pacs-domains"}
        assert {cell.config.model.source for cell in cells} == {str(tmp_path / smoke.MODEL)}


def test_grid_and_run_agree_on_what_is_complete(tmp_path):
    config = ExperimentConfig(merges=("average", "average@1", "ties@0.5", "ties@0.50"))
    run = RunDirectory(tmp_path / "run")
    assert not run.is_complete(config, num_models(config))
    run.start(config)
    assert not run.is_complete(config, num_models(config))
    groups = ["all", "task 1", "task 2", "domain:art"]
    lines = [
        {"after_task": after, "model": model, "scale": scale, "protocol": protocol}
        | {"group": group, "accuracy": 0.5, "count": 2}
        for after, models in (
            (0, [("zero_shot", None)]),
            (1, [("finetuned", None), ("average", 1.0), ("ties", 0.5)]),
            (2, [("finetuned", None), ("average", 1.0), ("ties", 0.5)]),
        )
        for model, scale in models
        for protocol in ("agnostic", "aware")
        for group in groups
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.path / "results.jsonl").write_text(text)
    assert run.is_complete(config, num_models(config))
    assert not run.is_complete(dataclasses.replace(config, seed=6), 3)
    stored = json.loads((run.path / "config.json").read_text())
    del stored["merging"]  # as runs wrote it before the field existed
    (run.path / "config.json").write_text(json.dumps(stored))
    assert run.is_complete(config, 3) and run.holds(config)
    (run.path / "results.jsonl").write_text(text[:-20])
    assert not run.is_complete(config, num_models(config))
