"""A small run that is killed again and again, each time at a random moment, and resumed.

    python -m tests.interruptions DIRECTORY [--kills 20] [--seed 0] [--every 2]

Prints a line a kill, and at the end whether the run came out as one that nobody disturbed did: its
rows, and every array of its last checkpoint, to the bit. When all of a run is done before there
were enough kills, another one is begun.
"""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time
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

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
from experiments.run import main
from magmax_jax.errors import exit_code
sys.exit(exit_code(lambda: main(sys.argv[1:])))
"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What is killed, and how often."""

    directory: tyro.conf.Positional[Path]
    """For the model and the runs."""
    clip: Path
    """The model: a directory."""
    kills: int = 20
    seed: int = 0
    every: int = 2
    """Steps between two checkpoints."""
    regularizer: str = "ewc"


def config(arguments: Arguments) -> ExperimentConfig:
    """Three tasks of 18 steps, two streaming merges and a collecting one, and a regularizer."""
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
    """One run's directory, and the processes that work on it."""

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
        """What it prints from here to its end."""
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
        """Of the rows, of the metrics but for the clock's, and of all arrays that were kept."""
        from magmax_jax.export import export

        total = hashlib.sha256((self.out / "results.jsonl").read_bytes())
        for line in (self.out / "metrics.jsonl").read_text().splitlines():
            numbers = json.loads(line)
            del numbers["seconds"], numbers["images_per_second"]
            total.update(json.dumps(numbers).encode())
        models = ["finetuned", "max_magnitude", "random_mix", "ties", "task:1", "task:2", "task:3"]
        for model in models:
            exported = self.out / "exported" / model.replace(":", "-")
            if not exported.exists():
                export(self.out, model, exported)
            total.update((exported / "model.safetensors").read_bytes())
        return total.hexdigest()


def main() -> None:
    arguments = tyro.cli(Arguments)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(arguments.seed)
    Run(arguments, "compiling").finish()
    began = time.perf_counter()
    reference = Run(arguments, "undisturbed")
    reference.finish()
    duration = time.perf_counter() - began
    expected, kills, runs = reference.digest(), 0, 0
    print(f"undisturbed: {duration:.1f} s, {expected[:16]}", flush=True)
    same = []
    while kills < arguments.kills:
        runs += 1
        run = Run(arguments, f"killed-{runs}")
        while kills < arguments.kills:
            child, after = run.start(), random.uniform(0.1, 1.0) * duration
            try:
                child.wait(after)
                break  # it was done before
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.communicate()
            kills += 1
            saving = ", while it saved" if run.saving() else ""
            print(f"kill {kills} after {after:.1f} s: at {run.newest()}{saving}", flush=True)
        text = run.finish()
        same.append(run.digest() == expected)
        went_on = [line.strip() for line in text.splitlines() if "going on" in line]
        print(
            f"run {runs} {' '.join(went_on)}: {'the same' if same[-1] else 'ANOTHER'}", flush=True
        )
    print(json.dumps({"kills": kills, "runs": runs, "same": all(same)}))


if __name__ == "__main__":
    main()
