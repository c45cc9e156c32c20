"""`metrics.jsonl`, what is kept of it after an interruption, and logging boards."""

import json
import sys
import types

import pytest

from magmax_jax.errors import UserError
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.step_log import StepLog, check_boards
from magmax_jax.training import Metrics

NUMBERS = Metrics(0.5, 1.0, 1e-3, 20.0, 0.01, None)


def lines(out: RunDirectory) -> list[dict]:
    return [json.loads(line) for line in out.metrics.read_text().splitlines()]


def test_every_step_writes_one_line(tmp_path):
    out = RunDirectory(tmp_path)
    with StepLog(out) as log:
        log(1, 0, NUMBERS, 8)
        log(2, 0, NUMBERS._replace(penalty=0.25), 8)
    first, second = lines(out)
    assert (first["task"], first["step"], first["total_step"]) == (1, 1, 1)
    assert (second["task"], second["step"], second["total_step"]) == (2, 1, 2)
    assert first["loss"] == 0.5 and first["learning_rate"] == 1e-3
    assert "penalty" not in first and second["penalty"] == 0.25
    assert first["images_per_second"] == pytest.approx(8 / first["seconds"])


def test_repeated_steps_are_not_logged_twice(tmp_path):
    out = RunDirectory(tmp_path)
    with StepLog(out) as log:
        for step in range(5):
            log(1, step, NUMBERS, 8)
    with out.metrics.open("a") as file:
        file.write('{"task": 1, "st')  # truncated
    with StepLog(out, done=3) as log:
        log(1, 3, NUMBERS, 8)
    assert [line["total_step"] for line in lines(out)] == [1, 2, 3, 4]


def test_a_non_writing_process_leaves_no_file(tmp_path):
    with StepLog(RunDirectory(tmp_path, writes=False)) as log:
        log(1, 0, NUMBERS, 8)
    assert not list(tmp_path.iterdir())


def test_boards_get_the_same_numbers(tmp_path, monkeypatch):
    shown = []

    class Writer:
        def __init__(self, directory):
            shown.append(directory)

        def add_scalar(self, name, value, step):
            shown.append((name, value, step))

    class Wandb:
        def init(self, **options):
            shown.append(options)
            return self

        def log(self, numbers, step):
            shown.append((numbers["train/loss"], step))

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    with StepLog(RunDirectory(tmp_path), 6, ("tensorboard", "wandb"), "mine") as log:
        log(2, 0, NUMBERS, 8)
    assert str(tmp_path / "tensorboard") in shown
    assert ("train/loss", 0.5, 7) in shown and (0.5, 7) in shown
    assert any(isinstance(entry, dict) and entry["name"] == "mine" for entry in shown)


def test_a_board_that_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="--boards wandb needs the package wandb: pip install"):
        check_boards(["wandb"])
