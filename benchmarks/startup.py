"""Start-up: imports, --help, tiny merges, and the quickstart up to its first step and its end.

python -m benchmarks.startup --peers PYTHON --output startup.md
"""

import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks import tables
from benchmarks.contenders import Whole
from benchmarks.flags import PeersFlags, command, matching
from benchmarks.machine import describe
from benchmarks.tables import Output, table

IMPORT_GOAL, HELP_GOAL, MERGE_GOAL, QUICKSTART_GOAL = 1.5, 1.0, 0.3, 60.0
"""Goals in seconds for our own; that of merges is for those that compute nothing."""
IMPORTS = {
    "import magmax_jax": "import magmax_jax",
    "magmax_jax.merge": "from magmax_jax import merge",
    "magmax_jax.CLIP": "from magmax_jax import CLIP",
    "everything public": "from magmax_jax import *",
}
LAUNCHERS = (
    "run", "run quickstart", "evaluate", "analyse", "report", "watch", "table", "grid", "prepare",
    "export", "pretrain_tiny_clip",
)  # fmt: skip
PEER_IMPORTS = {
    "import torch": "torch",
    "from transformers import CLIPModel": "transformers",
    "import mergekit.merge": "mergekit",
    "from fusion_bench.method import MagMaxAlgorithm": "fusion_bench",
}
PEER_COMMANDS = {"mergekit-pytorch": "mergekit", "fusion_bench": "fusion_bench"}
"""Commands installed beside the peers' python, each with its module."""
MILESTONES = {
    "images, model and head are there": "config.json",
    "the zero-shot model is evaluated": "results.jsonl",
    "the first step is recorded": "metrics.jsonl",
}
"""Milestones of a run: the file in its directory that marks each."""
ALL = "all is done"


@dataclass(frozen=True)
class Settings(PeersFlags):
    """Times start-up, and the quickstart, which is mostly start-up."""

    only: tuple[str, ...] = ("*",)
    """Shell patterns for the names of imports and commands; with none, nothing is timed."""
    run: str = "quickstart"
    """Arguments of experiments.run, timed without and with compiled programs; "" skips it."""
    time_limit: float = 900.0
    """Seconds; a process that takes longer is killed."""


def starts(settings: Settings) -> list[Whole]:
    """Imports and `--help`, ours and others'; ours have a goal in seconds among their labels."""

    def start(name: str, *words: str, needs: str | None = None, **labels: float) -> Whole:
        return Whole(
            name=name, command=words, labels=labels, needs=needs, python=settings.peers,
            limit=settings.time_limit, warmed_up=True,
        )  # fmt: skip

    def imports(name: str, program: str, **labels: float) -> Whole:
        return start(name, sys.executable, "-c", program, **labels)

    def help(name: str, words: str) -> Whole:
        command = [sys.executable, "-m", *words.split(), "--help"]
        return start(f"ours: {name} --help", *command, goal=HELP_GOAL)

    peers = str(settings.peers)
    return [
        imports("limit: python, nothing else", "pass"),
        *(imports(f"limit: import {m}", f"import {m}") for m in ("numpy", "jax", "flax.nnx")),
        *(imports(f"ours: {name}", p, goal=IMPORT_GOAL) for name, p in IMPORTS.items()),
        imports("ours: what a run imports", "import experiments.run, magmax_jax.runs.train"),
        *(help(f"magmax {w}".strip(), f"magmax_jax {w}") for w in ("", "merge", "inspect")),
        *(help(f"experiments.{name}", f"experiments.{name}") for name in LAUNCHERS),
        *(start(f"peer: {p}", peers, "-c", p, needs=m) for p, m in PEER_IMPORTS.items()),
        *(
            start(f"peer: {c} --help", peers, str(settings.peers.parent / c), "--help", needs=m)
            for c, m in PEER_COMMANDS.items()
        ),
    ]


def merges(folder: Path) -> list[Whole]:
    """`magmax merge` and `magmax inspect` of two tiny models, which are written to `folder`."""
    models = [folder / f"{name}.safetensors" for name in ("theta_0", "a", "b")]
    for number, path in enumerate(models):
        save_file({"w": np.full((32, 32), number, np.float32)}, path)
    theta_0, *others = map(str, models)
    sources = ["--pretrained", theta_0, "--finetuned", *others]
    merged = folder / "merged.safetensors"

    def ours(name: str, *words: str, **labels: float) -> Whole:
        return Whole(
            name=f"ours: magmax {name}", command=[sys.executable, "-m", "magmax_jax", *words],
            labels=labels, before=lambda: merged.unlink(missing_ok=True), warmed_up=True,
        )  # fmt: skip

    return [
        ours("inspect, a tiny model", "inspect", others[0], goal=MERGE_GOAL),
        ours("merge --dry-run, two tiny models", "merge", *sources, "--dry-run", goal=MERGE_GOAL),
        ours("merge, two tiny models", "merge", *sources, "--output", str(merged)),
    ]


def starts_table(chosen: Sequence[Whole]) -> str:
    columns = {
        "seconds": tables.median(),
        "core-seconds": lambda one: f"{one.median('core_seconds'):.2f}",
        "all runs": tables.every(),
        "goal": lambda one: f"{one.labels['goal']:g}" if "goal" in one.labels else "",
        "met": lambda one: met(one, one.labels["goal"]) if "goal" in one.labels else "",
    }
    return table({"": tables.name}, columns, chosen)


def met(one: Whole, goal: float) -> str:
    return "yes" if not one.failure and one.median() < goal else "no"


def runs(settings: Settings, work: Path) -> list[Whole]:
    """`experiments.run` as users type it, with an empty compilation cache, then with a warm one."""

    def run(kind: str, *old: Path) -> Whole:
        out = work / kind

        def before() -> None:
            for folder in (out, *old):
                shutil.rmtree(folder, ignore_errors=True)

        words = [*shlex.split(settings.run), "--out", str(out), "--cache", str(work / "programs")]
        return Whole(
            name=kind, command=[sys.executable, "-m", "experiments.run", *words],
            labels={"run": settings.run}, limit=settings.time_limit, before=before,
            files={name: out / file for name, file in MILESTONES.items()},
        )  # fmt: skip

    return [run("cold", work / "programs"), run("warm")]


def runs_table(ended: Sequence[Whole]) -> str:
    """A row for each milestone, with the seconds of every run; the last is the end of the run."""

    def column(one: Whole, shown: Callable[[list[float]], str]) -> Callable[[str], str]:
        def cell(milestone: str) -> str:
            found = [{**call["reached"], ALL: call["seconds"]}.get(milestone) for call in one.calls]
            return shown([seconds for seconds in found if seconds is not None])

        return cell

    def median(found: list[float]) -> str:
        return f"{statistics.median(found):.2f}" if found else ""

    def every(found: list[float]) -> str:
        return " ".join(f"{seconds:.2f}" for seconds in found)

    columns = {"": str}
    columns |= {f"{one.name}, s": column(one, median) for one in ended if not one.failure}
    columns |= {f"{one.name}, all runs": column(one, every) for one in ended}
    failed = "".join(f"\n\n{one.name}: {one.failure}" for one in ended if one.failure)
    return table({}, columns, [*MILESTONES, ALL]) + failed


def run(settings: Settings) -> None:
    """Shows a table of imports and commands, and one of the run.

    Raises:
      UserError: no name matches.
    """
    description = describe(settings.peers) | {"repeats": str(settings.repeats)}
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        every = [*starts(settings), *merges(Path(folder))]
        chosen = matching(every, settings.only) if settings.only else []
        output = Output(settings.output, description)
        if chosen:
            output.measure(chosen, settings.repeats)
            output.show(f"## Imports and commands\n\n{starts_table(chosen)}")
    if settings.run:
        with tempfile.TemporaryDirectory(prefix="startup-") as folder:
            ended = runs(settings, Path(folder))
            output.measure(ended, settings.repeats)
        output.show(f"## `python -m experiments.run {settings.run}`: seconds from its start until")
        output.show(runs_table(ended))
        if settings.run == "quickstart":
            said = ", ".join(f"{one.name} {met(one, QUICKSTART_GOAL)}" for one in ended)
            output.show(f"All of it under {QUICKSTART_GOAL:g} s: {said}.")


main = command(Settings, run, "benchmarks.startup", __doc__)

if __name__ == "__main__":
    sys.exit(main())
