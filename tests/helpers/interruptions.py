"""A small run that is repeatedly killed at random moments and resumed.

    python -m tests.helpers.interruptions DIRECTORY --clip MODEL [--kills 20] [--seed 0] [--every 2]

Prints one line per kill, and at the end whether the run equals an undisturbed one to the bit: its
rows, its metrics and every array that it keeps. If a run finishes before there were enough kills,
another one is started.
"""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from magmax_jax.cli.run import main
from magmax_jax.errors import exit_code
sys.exit(exit_code(lambda: main(sys.argv[1:])))
"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to kill and how often."""

    directory: tyro.conf.Positional[Path]
    """Working directory for the model and the runs."""
    clip: Path
    """Directory of the model."""
    kills: int = 20
    seed: int = 0
    every: int = 2
    """Steps between two checkpoints."""
    regularizer: str = "ewc"


def config(arguments: Arguments) -> ExperimentConfig:
    """Three tasks of about 18 steps, two streaming merges and a collecting one, a regularizer."""
    return ExperimentConfig(
        model=ModelConfig(str(arguments.clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=3, allow_unequal=True, limit_per_class=8
        ),
        method=MethodConfig(regularizer=arguments.regularizer),
        train=TrainConfig(epochs=6, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(every=arguments.every, keep_tasks=True),
        merges=("max_magnitude", "random_mix", "ties"),
        eval_batch_size=32,
    )


class Run:
    """One run's directory and the processes that work on it."""

    def __init__(self, arguments: Arguments, name: str):
        self.out = arguments.directory / name
        file = arguments.directory / "config.json"
        file.write_text(config(arguments).to_json())
        cache = arguments.directory / "compiled"
        self.command = [sys.executable, "-c", PROGRAM, "--config", str(file), "--out"]
        self.command += [str(self.out), "--cache", str(cache)]

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> str:
        """Runs it to the end and returns its output."""
        child = self.start()
        text, _ = child.communicate()
        assert child.returncode == 0, text
        return text

    def saving(self) -> bool:
        """Whether a checkpoint is half-written."""
        return any(".orbax-checkpoint-tmp" in p.name for p in (self.out / "checkpoints").glob("*"))

    def newest(self) -> int | None:
        numbers = [int(p.name) for p in (self.out / "checkpoints").glob("*") if p.name.isdigit()]
        return max(numbers, default=None)

    def digest(self) -> str:
        return digest(self.out)


def digest(out: Path) -> str:
    """Hash of the rows, of the metrics except timings, and of all arrays that a run keeps."""
    from magmax_jax.runs.export import export

    total = hashlib.sha256((out / "results.jsonl").read_bytes())
    if (out / "sweep.jsonl").exists():
        total.update((out / "sweep.jsonl").read_bytes())
    for counts in sorted((out / "counts").iterdir()):
        total.update(counts.name.encode() + counts.read_bytes())
    for line in (out / "metrics.jsonl").read_text().splitlines():
        numbers = json.loads(line)
        del numbers["seconds"], numbers["images_per_second"]
        total.update(json.dumps(numbers).encode())
    tasks = [f"task:{folder.name}" for folder in sorted((out / "tasks").glob("[0-9]*"))]
    for model in ["finetuned", "max_magnitude", "random_mix", "ties", *tasks]:
        exported = out / "exported" / model.replace(":", "-")
        if not exported.exists():
            export(out, model, exported)
        total.update((exported / "model.safetensors").read_bytes())
    return total.hexdigest()


def disturb(
    arguments: Arguments, expected: str, duration: float, say: Callable[[str], None] = print
) -> bool:
    """Kills runs as often as requested; returns whether all of them ended as `expected`.

    Args:
      expected: digest of an undisturbed run.
      duration: seconds that it took.
    """
    random, kills, same = np.random.default_rng(arguments.seed), 0, []
    while kills < arguments.kills:
        run = Run(arguments, f"killed-{len(same) + 1}")
        while kills < arguments.kills:
            child, after = run.start(), random.uniform(0.1, 1.0) * duration
            try:
                child.wait(after)
                break  # it finished before the kill
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.communicate()
            kills += 1
            saving = ", while it saved" if run.saving() else ""
            say(f"kill {kills} after {after:.1f} s: checkpoint {run.newest()}{saving}")
        text = run.finish()
        same.append(run.digest() == expected)
        where = " ".join(line.strip() for line in text.splitlines() if "resuming" in line)
        say(f"run {len(same)}, {where}: {'the same' if same[-1] else 'ANOTHER'}")
    return all(same)


def main() -> None:
    arguments = tyro.cli(Arguments)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    Run(arguments, "compiling").finish()
    began, reference = time.perf_counter(), Run(arguments, "undisturbed")
    reference.finish()
    duration = time.perf_counter() - began
    expected = reference.digest()
    print(f"undisturbed: {duration:.1f} s, {expected[:16]}", flush=True)
    if not disturb(arguments, expected, duration, partial(print, flush=True)):
        raise SystemExit("not all runs came out the same")


if __name__ == "__main__":
    main()
