"""A whole small run on several device layouts; the program of `test_sharding.py`.

    export NPROC=64 XLA_FLAGS=--xla_force_host_platform_device_count=8
    python -m tests.helpers.layouts CLIP OUT 8x1x1 2x4x2
    ... python -m tests.helpers.layouts CLIP OUT 4x2x1 --distributed --coordinator HOST:PORT ...

A layout is DATAxFSDPxPARTS: the mesh and the parts of a batch. Its run goes into OUT/LAYOUT. Prints
one JSON object with the results of each run. The number of CPU devices is fixed when jax starts.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro

from magmax_jax.cli.engine import Engine
from magmax_jax.config import (
    ExperimentConfig,
    MeshConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run
from tests.helpers.compilations import compilations


class Recorder(NullProgress):
    """Keeps every loss and counts the messages."""

    def __init__(self):
        self.losses: list[float] = []
        self.said = 0

    def say(self, text) -> None:
        self.said += 1

    @contextmanager
    def training(self, name, steps, images, first=0) -> Iterator:
        yield lambda step, metrics: self.losses.append(metrics.loss)


def config(
    clip: Path, layout: str, start: str = "last", merges: tuple[str, ...] = ("max_magnitude",)
) -> ExperimentConfig:
    """Two tasks of ten steps. 65 images in batches of 16: the last has only one real row."""
    data, fsdp, parts = map(int, layout.split("x"))
    recipe = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "warmup_fraction": 0.1}
    return ExperimentConfig(
        model=ModelConfig(str(clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=13),
        train=TrainConfig(**recipe, accumulate=parts),
        method=MethodConfig(start=start),
        mesh=MeshConfig(data, fsdp),
        merges=merges,
        eval_batch_size=32,
    )


def record(clip: Path, out: Path, layout: str, start: str, merges: tuple[str, ...]) -> dict:
    """One run: its losses, its number of messages, and how often each step was compiled."""
    recorder = Recorder()
    with compilations() as compiled:
        run(config(clip, layout, start, merges), RunDirectory(out / layout), recorder)
    names = ("train_step", "eval_step", *(("_folded", "_merged") if start != "last" else ()))
    counts = {step: sum(step in name for name in compiled) for step in names}
    return {"losses": recorder.losses, "said": recorder.said, "compiled": counts}


@dataclasses.dataclass(frozen=True)
class Arguments:
    clip: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    layouts: tyro.conf.Positional[tuple[str, ...]]
    engine: Annotated[Engine, tyro.conf.arg(name="")]
    start: str = "last"
    merges: tuple[str, ...] = ("max_magnitude",)


def main() -> None:
    arguments = tyro.cli(Arguments)
    arguments.engine.start()
    shown = {}
    for layout in arguments.layouts:
        shown[layout] = record(
            arguments.clip, arguments.out, layout, arguments.start, arguments.merges
        )
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
