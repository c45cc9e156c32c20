"""Whole processes, timed in turn: starts, a run without and with compiled programs, first steps."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import Limits, Run, measure
from benchmarks.milestones import milestones
from benchmarks.starts import Start
from benchmarks.times import Times
from benchmarks.turns import ROOT, environment

CACHES = ("cold", "warm")
"""Without any compiled program, and with those that the run before it kept."""
TORCH = "torch"
MILESTONES = {
    "images, model and head are there": "config.json",
    "the zero-shot model is evaluated": "results.jsonl",
    "the first step is recorded": "metrics.jsonl",
}
"""Of a run: the file of its directory that tells."""
STEPPED = "until the first step is done"


@dataclass(frozen=True)
class Bench:
    """What measures them.

    Attributes:
      work: a directory of its own, for compiled programs and runs.
      repeats: of every measurement.
      limit: seconds after which a process is ended.
      times: where all goes.
    """

    work: Path
    repeats: int
    limit: float
    times: Times

    def once(self, command: Sequence[str]) -> Run:
        """Runs a command to its end."""
        limits = Limits(memory=float("inf"), seconds=self.limit)
        env = environment(JAX_ENABLE_COMPILATION_CACHE="true")
        return measure(command, limits, self.work / "log", ROOT, env)

    def time_starts(self, chosen: Sequence[Start]) -> None:
        """Each once unheeded, after which its files are in memory, then all in turn."""
        for repeat in range(-1, self.repeats):
            for start in chosen:
                run = self.once(start.command)
                if repeat >= 0:
                    self.times.add((start.name,), repeat, run)

    def time_run(self, arguments: str) -> None:
        """`experiments.run` as users type it, with a new cache, and again with what it left."""
        for repeat in range(self.repeats):
            cache = self.work / f"programs-{repeat}"
            for kind in CACHES:
                out = self.work / f"run-{repeat}-{kind}"
                flags = ["--out", str(out), "--cache", str(cache)]
                command = [sys.executable, "-m", "experiments.run", *shlex.split(arguments), *flags]
                with milestones({name: out / file for name, file in MILESTONES.items()}) as reached:
                    run = self.once(command)
                self.times.add(("run", kind), repeat, run, reached)

    def time_steps(self, facts: dict[str, Any], torch: Path | None) -> str:
        """The first training step of a fresh process, with a new cache, again with that, in torch.

        Args:
          facts: `size`, a name, `config`, the same as `tower_config` tells it, `batch_size` and
            `dtype`.
          torch: the python of an environment with torch and transformers, if there is one.

        Returns:
          what ours was computed on.
        """
        answer, device = self.work / "answer.json", "unknown: it failed"
        commands = dict.fromkeys(CACHES, (sys.executable, "benchmarks.first_step"))
        commands |= {TORCH: (str(torch), "benchmarks.peers.first_step")} if torch else {}
        for repeat in range(self.repeats):
            cache = str(self.work / f"programs-{facts['size']}-{repeat}")
            for kind, (python, module) in commands.items():
                answer.unlink(missing_ok=True)
                settings = facts | {"cache": cache, "answer": str(answer)}
                settings["start"] = time.monotonic()
                run = self.once([python, "-m", module, json.dumps(settings)])
                parts: dict[str, float] = {}
                if answer.exists():
                    found = json.loads(answer.read_text())
                    device = device if kind == TORCH else found["device"]
                    parts = found["parts"] | {STEPPED: sum(found["parts"].values())}
                self.times.add((facts["size"], kind), repeat, run, parts)
        return device
