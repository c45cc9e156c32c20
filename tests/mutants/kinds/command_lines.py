"""Command lines: words that a user mistypes, in `run`, `evaluate` and `merge --dry-run`."""

import contextlib
import io
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import constants

from magmax_jax.cli import evaluate, merge, run
from magmax_jax.cli.words import as_meant
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError, exit_code
from magmax_jax.runs.check import check_config, check_seed
from magmax_jax.runs.sweep import check as check_sweep
from tests.merge_files.conftest import write
from tests.mutants.kind import Kind
from tests.mutants.mutate import ODD

WORDS = "words.json"
VALUES = (
    *(str(value) for value in ODD if not isinstance(value, str)),
    *(value for value in ODD if isinstance(value, str) and "\0" not in value),
    "a=b", "=", "density=nan", "density=2", "weights=1,2,3", "weights=", "--", "-1e3", "+1", "1_0",
    "0x10", "\u0663", "ties@nan", "ties@", "@0.5", "ema+lda@0.5", "ema+x", "task:0", "task:9e9",
    "base:zero_shot", "run:finetuned", "run:ties@0.5", "run:task:1", "run:", ":", "[a", "*", "**",
    "folder:", "folder:/", "x@3", "x@-1", "*=*", "a.*=b.*.*", "max_magnitude", "TIES", "./base",
)  # fmt: skip


def _words(data: bytes, draw: random.Random) -> bytes:
    """Changes one or a few words: dropped, doubled, swapped, misspelt, or with another value."""
    words: list[str] = json.loads(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        at, kind = draw.randrange(len(words)), draw.randrange(6)
        if kind == 0 and len(words) > 1:
            del words[at]
        elif kind == 1:
            words.insert(at, draw.choice(words))
        elif kind == 2:
            other = draw.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif kind == 3 and words[at]:
            place = draw.randrange(len(words[at]))
            words[at] = words[at][:place] + draw.choice(" .-_=:a0") + words[at][place + 1 :]
        elif kind == 4 and words[at].startswith("--"):
            words[at] = f"{words[at].partition('=')[0]}={draw.choice(VALUES)}"
        else:
            words[at] = draw.choice(VALUES)
    return json.dumps(words).encode()


def _make_run(preset: str, *flags: str) -> Callable[[Path], None]:
    return lambda folder: (folder / WORDS).write_text(json.dumps([preset, *flags])) and None


def _said(folder: Path, read: Callable[[list[str]], Any]) -> Any:
    """The result of a command; an error of its flags, which tyro prints in a box, is one sentence.

    Raises:
      UserError: the command ends with exit code 2 and says why, in one sentence.
    """
    words = json.loads((folder / WORDS).read_text())
    before, offline, out, error = Path.cwd(), constants.HF_HUB_OFFLINE, io.StringIO(), io.StringIO()
    constants.HF_HUB_OFFLINE = True
    os.chdir(folder)
    of_flags = False
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            found: list[Any] = []
            code = exit_code(lambda: found.append(read(words)))
    except SystemExit as ending:
        code, of_flags = int(ending.code or 0), True  # tyro's, in a box
    finally:
        os.chdir(before)
        constants.HF_HUB_OFFLINE = offline
    if code == 0:
        return found[0] if found else None
    lines = [line for line in error.getvalue().splitlines() if not line.startswith("note: ")]
    if code != 2 or not lines or not (of_flags or _is_one_error(lines)):
        raise RuntimeError(f"exit code {code}: {error.getvalue()}")
    raise UserError(lines[0])


def _is_one_error(lines: Sequence[str]) -> bool:
    """One sentence, or the number of problems and a line for each."""
    return lines[0].startswith("error: ") and all(line.startswith("  ") for line in lines[1:])


def _launch(words: list[str]) -> run.Launch:
    """What `magmax run` does before it loads data or a model."""
    launch = run.parse(as_meant(words))
    check_config(launch.config)
    check_seed(launch.config.seed, kept=False)
    if launch.sweep.rules:
        check_sweep(launch.sweep, launch.config)
    return launch


def _can_be_repeated(folder: Path, launch: run.Launch | None) -> bool:
    """Whether the configuration that a run would write is the one that was parsed."""
    if launch is None:
        return True
    (folder / "config.json").write_text(launch.config.to_json())
    return ExperimentConfig.from_file(folder / "config.json") == launch.config


# Merges of two small checkpoints; what looks like a run has no checkpoint yet.


def _make_merge(*flags: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for i, name in enumerate(("base", "one", "two")):
            made = np.full((4, 3), i, np.float32)
            write(folder / name, {("x.w" if name == "two" else "a.w"): made, "b.w": made})
        (folder / "run" / "checkpoints").mkdir(parents=True)
        (folder / "run" / "config.json").write_text(ExperimentConfig().to_json())
        words = ["--pretrained", "base", "--finetuned", "one", "two", *flags]
        (folder / WORDS).write_text(json.dumps(words))

    return make


def _plan(words: list[str]) -> None:
    merge.main([*as_meant(words), "--dry-run"])


KINDS = {
    "run, words": Kind(
        WORDS,
        _make_run(
            "quickstart", "--out", "runs/x", "--train.epochs", "2", "--seed", "3",
            "--merges", "max_magnitude", "ties@0.5", "ema+lda@0.7", "--scenario.num-tasks", "5",
            "--sweep.rules", "max_magnitude", "--method.regularizer=ewc", "--train.warmup-fraction",
            "0.1", "--mesh.data", "1", "--merging.scales", "0.1,0.5", "--preset", "paper",
        ),
        lambda folder: _said(folder, _launch),
        _words,
        _can_be_repeated,
        cost=10,
    ),
    "evaluate, words": Kind(
        WORDS,
        _make_run(
            "run:max_magnitude@0.5", "base", "--batch-size", "8", "--scenario.kind", "class",
            "--scenario.dataset", "digits", "--scenario.num-tasks", "2", "--per-class",
        ),
        lambda folder: _said(folder, lambda words: evaluate.parse(as_meant(words))),
        _words,
        cost=5,
    ),
    "merge, words": Kind(
        WORDS,
        _make_merge(
            "--rule", "ties", "--scale", "0.5", "--options", "density=0.2", "--seed", "1",
            "--include", "a.*", "--exclude", "b.*", "--out-dtype", "float16", "--output", "merged",
            "--rename", "x.*=a.*",
        ),
        lambda folder: _said(folder, _plan),
        _words,
        cost=5,
    ),
}  # fmt: skip
