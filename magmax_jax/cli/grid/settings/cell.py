"""A cell of a grid: one training run, with all merges that can share it."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from magmax_jax.config import ExperimentConfig, MethodConfig, SweepConfig

MERGES = ("max_magnitude", "average", "random_mix", "ties")
"""The published merges, each at its published scale."""


@dataclass(frozen=True)
class Cell:
    """One configuration and its name; the hash of the configuration identifies it."""

    setting: str
    """What is learned: cifar100-10."""
    method: str
    """How: sequential, independent, ewc, lwf, joint."""
    config: ExperimentConfig
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Merges evaluated at many scales after training; not part of the identity."""

    @property
    def name(self) -> str:
        return f"{self.setting}/{self.method}/seed-{self.config.seed}"

    @property
    def digest(self) -> str:
        """Hash of the whole configuration: a changed configuration is a different cell."""
        settings = json.loads(self.config.to_json())
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def directory(self, out: Path) -> Path:
        """The directory of the cell's run."""
        return out / self.name / self.digest

    def with_seed(self, seed: int) -> "Cell":
        return replace(self, config=replace(self.config, seed=seed))


def stream(setting: str, config: ExperimentConfig) -> list[Cell]:
    """The cells that learn the scenario's tasks in sequence: four trainings, two of them merged.

    Each of them includes zero-shot accuracy.
    """
    merged = replace(config, merges=MERGES)
    alone = replace(config, merges=())
    return [
        Cell(setting, "sequential", merged),
        Cell(setting, "independent", _with(merged, sequential=False)),
        Cell(setting, "ewc", _with(alone, regularizer="ewc")),
        Cell(setting, "lwf", _with(alone, regularizer="lwf")),
    ]


def joint(setting: str, config: ExperimentConfig) -> Cell:
    """The upper bound: all tasks at once. It does not depend on how the data is divided."""
    return Cell(setting, "joint", _with(replace(config, merges=()), joint=True))


def _with(config: ExperimentConfig, **method: Any) -> ExperimentConfig:
    return replace(config, method=MethodConfig(**method))
