"""Cells as jobs: run by submitit's local executor and by a shell script that mimics Slurm."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid.launchers import Launcher
from magmax_jax.cli.grid.local_jobs import visible_gpus
from magmax_jax.cli.grid.settings import Cell
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import UserError
from tests.cli import has_trained

ROOT = Path(__file__).parents[2]
FAKES = {
    # Runs every array task at once instead of queueing it.
    "sbatch": """
        cp "$1" {folder}/submitted.sh
        export SLURM_JOB_ID=77 SLURM_ARRAY_JOB_ID=77 SLURM_JOB_NODELIST=here
        for SLURM_ARRAY_TASK_ID in 0 1; do
            export SLURM_ARRAY_TASK_ID
            bash "$1" > {folder}/$SLURM_ARRAY_TASK_ID.log 2>&1 &
        done
        echo Submitted batch job 77
    """,
    "srun": """
        while [ "${{1#-}}" != "$1" ]; do
            case "$1" in --output|--error) shift;; esac
            shift
        done
        SLURM_PROCID=0 SLURM_NTASKS=1 exec "$@"
    """,
    "sacct": "echo 'JobID|State|NodeList'",
}


@pytest.fixture
def cells(tiny_clip, monkeypatch) -> list[Cell]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=2),
        train=TrainConfig(epochs=1, batch_size=8),
        merges=(),
        eval_batch_size=32,
    )
    nowhere = replace(config, model=ModelConfig("/nowhere"))
    return [Cell("digits", "sequential", config), Cell("nowhere", "sequential", nowhere)]


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Fake cluster commands; this folder holds what was submitted."""
    for name, text in FAKES.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/bash\n" + text.format(folder=tmp_path))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def assert_one_failed(outcomes, cells, out):
    good, bad = (outcomes[cell] for cell in cells)
    assert good.code == 0 and one.state(cells[0], out) == "done"
    assert bad.failed and "/nowhere" in bad.reason


@pytest.mark.slow
def test_local_jobs_run_in_parallel_and_one_failure_affects_no_other(cells, tmp_path, capsys):
    outcomes = Launcher("local", jobs=2).run(cells, tmp_path)
    assert_one_failed(outcomes, cells, tmp_path)
    shown = capsys.readouterr().out
    assert (
        "digits/sequential/seed-5: done" in shown and "nowhere/sequential/seed-5: failed" in shown
    )
    logs = [path.read_text() for path in (tmp_path / "jobs").glob("*_log.out")]
    assert any("--config" in log and "zero_shot" in log for log in logs)


@pytest.mark.slow
def test_slurm_jobs_are_an_array_of_the_same_command(cells, slurm):
    outcomes = Launcher("slurm", jobs=2, partition="gpu", gpus_per_node=1, timeout_min=60).run(
        cells, slurm / "out"
    )
    assert_one_failed(outcomes, cells, slurm / "out")
    script = (slurm / "submitted.sh").read_text()
    for option in ("array=0-1%2", "partition=gpu", "gpus-per-node=1", "time=60", "nodes=1"):
        assert f"#SBATCH --{option}\n" in script
    assert "signal=USR2@90" in script  # before the time limit: saves and is requeued


def test_a_refusal_by_slurm_gives_a_one_sentence_error(cells, slurm):
    sbatch = slurm / "bin" / "sbatch"
    sbatch.write_text("#!/bin/bash\necho 'sbatch: error: Invalid account' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"sbatch refuses the jobs .*Invalid account.*--slurm"):
        Launcher("slurm", slurm=("account=none",)).run(cells, slurm / "out")


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 1", "it does not say why"), ("echo Queued.", "Could not make sense of sbatch output")],
)
def test_a_silent_failure_of_sbatch_also_gives_one_sentence(script, reason, cells, slurm):
    (slurm / "bin" / "sbatch").write_text(f"#!/bin/bash\n{script}\n")
    with pytest.raises(
        UserError, match=rf"^sbatch refuses the jobs \({reason}.*\): change --slurm"
    ):
        Launcher("slurm").run(cells, slurm / "out")


def test_a_dry_run_without_slurm_shows_what_slurm_would_get(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = Launcher(
        "slurm", jobs=1, nodes=2, gpus_per_node=8, mem_gb=64, partition="gpu", slurm=("qos=long",)
    )
    shown = launcher.describe(cells, tmp_path / "out")
    options = (
        "array=0-1%1", "nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "mem=65536MB",
        "time=1440", "partition=gpu", "qos=long",
    )  # fmt: skip
    for option in options:
        assert f"  #SBATCH --{option}\n" in shown
    assert "\neach job runs 16 processes with the command of its cell; for digits/seq" in shown
    assert shown.endswith(" --distributed")
    assert not (tmp_path / "out").exists()


def test_the_dry_run_is_what_sbatch_gets(cells, slurm):
    sbatch = slurm / "bin" / "sbatch"
    sbatch.write_text(f'#!/bin/bash\ncp "$1" {slurm}/submitted.sh\nexit 1\n')
    launcher = Launcher("slurm", gpus_per_node=1)
    shown = launcher.describe(cells, slurm / "out")
    with pytest.raises(UserError):
        launcher.run(cells, slurm / "out")
    script = (slurm / "submitted.sh").read_text().splitlines()
    given = [line for line in script if line.startswith("#SBATCH")]
    assert given == [line.strip() for line in shown.splitlines() if "#SBATCH" in line]


def test_several_nodes_without_a_gpu_count_are_noted(cells, tmp_path):
    note = "--gpus-per-node is not set, so a job has one process on each node"
    assert note in Launcher("slurm", nodes=2).describe(cells, tmp_path)
    assert note not in Launcher("slurm", nodes=2, gpus_per_node=1).describe(cells, tmp_path)
    assert Launcher("slurm").notes() == []


def test_a_job_on_several_nodes_is_one_run_with_a_process_per_gpu(cells, slurm):
    launcher = Launcher("slurm", nodes=2, gpus_per_node=4, slurm=("account=me", "qos=long"))
    job = launcher.job(cells[0], slurm / "out")
    assert job.command[-1] == "--distributed"
    sbatch = slurm / "bin" / "sbatch"
    sbatch.write_text(f'#!/bin/bash\ncp "$1" {slurm}/submitted.sh\necho full >&2\nexit 1\n')
    with pytest.raises(UserError, match=r"sbatch refuses the jobs .*full"):  # nothing is run
        launcher.run(cells, slurm / "out")
    text = (slurm / "submitted.sh").read_text()
    for option in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "account=me", "qos=long"):
        assert f"#SBATCH --{option}\n" in text
    assert "--distributed" not in Launcher("slurm").job(cells[0], slurm / "out").command


def test_without_slurm_nothing_is_left_behind(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="srun"):
        Launcher("slurm").run(cells, tmp_path / "out")
    assert not (tmp_path / "out" / "digits").exists()


def test_simultaneous_jobs_get_different_gpus(monkeypatch):
    def visible(slot: int, at_once: int = 2, gpus: int | None = 2) -> str | None:
        return visible_gpus(slot, at_once, gpus)["CUDA_VISIBLE_DEVICES"]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [visible(0), visible(1)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,9")
    assert [visible(0), visible(1)] == ["4,5", "6,9"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    with pytest.raises(UserError, match="fewer than the 4 GPUs"):
        visible(0)
    # submitit hides all GPUs if their number is not given.
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible(0, 1, None) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert visible(0, 1, None) == "7"


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["kill", "ctrl-c"])
def test_a_signal_lets_local_jobs_save(whole_group, tiny_clip, tmp_path):
    argv = f"smoke --only sequential/seed-1 --model.source {tiny_clip} --model.image-size None"
    scenario = "--scenario.kind class --scenario.dataset digits --scenario.num-tasks 5"
    command = [sys.executable, "-m", "experiments.grid", *argv.split(), *scenario.split()]
    command += ["--train.epochs", "500", "--launcher", "local", "--out", str(tmp_path)]
    grid = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not has_trained(tmp_path):
        time.sleep(0.2)
    if whole_group:
        os.killpg(grid.pid, signal.SIGINT)
    else:
        grid.send_signal(signal.SIGTERM)
    _, error = grid.communicate(timeout=180)
    assert grid.returncode == 128 + (signal.SIGINT if whole_group else signal.SIGTERM), error
    [metrics] = tmp_path.rglob("metrics.jsonl")
    saved = [path for path in (metrics.parent / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(saved) == 1
