"""What is killed: the command of every process, and what must be the same in the end."""

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

from magmax_jax.config import ExperimentConfig
from tests.conftest import save_tiny_clip
from tests.helpers.interruptions import Arguments, config, digest

Commands = Callable[[Path], list[list[str]]]
"""The words of each process that works in a directory; called again for every start."""


class Subject(NamedTuple):
    """A program to kill.

    Attributes:
      make: writes what it reads into an empty directory, which all trials share; it may use JAX.
      commands: (what `make` wrote, the directory of one trial) -> the words of every process.
      digest: of the result, from the directory of one trial; it may use JAX.
      victims: sets of processes that are killed, in turn.
    """

    make: Callable[[Path], None]
    commands: Callable[[Path, Path], list[list[str]]]
    digest: Callable[[Path], str]
    victims: tuple[tuple[int, ...], ...] = ((0,),)


def _experiment(folder: Path) -> None:
    """EWC, three merges of which one collects all tasks (TIES), images held out for a sweep."""
    save_tiny_clip(folder / "clip")
    made: ExperimentConfig = config(Arguments(folder, folder / "clip", regularizer="ewc"))
    short = {"epochs": 1, "batch_size": 8}
    made = made.replace(scenario={"validation": 0.25, "num_tasks": 2}, train=short)
    (folder / "config.json").write_text(made.to_json())


def _run(made: Path, trial: Path) -> list[str]:
    out = ["--out", str(trial / "run")]
    sweep = ["--sweep.rules", "ties", "--sweep.scales", "0.3,0.6"]
    return ["run", "--config", str(made / "config.json"), *out, *sweep]


def _distributed(made: Path, trial: Path) -> list[list[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
    return [[*_run(made, trial), *address, "--process", str(i)] for i in range(2)]


def _models(folder: Path) -> None:
    """40 tensors, 1.6 MB a model."""
    random = np.random.default_rng(0)
    for name in ("base", "one", "two", "three"):
        (folder / name).mkdir()
        weights = {f"{i}.w": random.standard_normal((100, 100), np.float32) for i in range(40)}
        save_file(weights, folder / name / "model.safetensors", {"format": "pt"})
        (folder / name / "config.json").write_text('{"model_type": "toy"}')


def _merge(made: Path, trial: Path) -> list[list[str]]:
    models = [str(made / name) for name in ("one", "two", "three")]
    words = ["merge", "--pretrained", str(made / "base"), "--finetuned", *models, "--quiet"]
    return [[*words, "--output", str(trial / "out")]]


def _merge_with_state(made: Path, trial: Path) -> list[list[str]]:
    return [[*_merge(made, trial)[0], "--state", str(trial / "state.safetensors")]]


def _files(trial: Path) -> str:
    """Hash of every file's name and bytes; the next merge there removes temporary ones."""
    total = hashlib.sha256()
    for path in sorted(p for p in trial.rglob("*") if p.is_file() and ".partial" not in str(p)):
        total.update(str(path.relative_to(trial)).encode() + path.read_bytes())
    return total.hexdigest()


def _run_digest(trial: Path) -> str:
    return digest(trial / "run")


SUBJECTS = {
    "run": Subject(_experiment, lambda made, trial: [_run(made, trial)], _run_digest),
    "merge": Subject(_models, _merge, _files),
    "merge with a state": Subject(_models, _merge_with_state, _files),
    "two processes": Subject(_experiment, _distributed, _run_digest, victims=((0,), (1,), (0, 1))),
}
