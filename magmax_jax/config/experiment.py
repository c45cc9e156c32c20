"""The whole experiment as one value, written to and read from JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from magmax_jax.config.changes import changed
from magmax_jax.config.checks import require
from magmax_jax.config.from_json import from_json
from magmax_jax.config.merging import MergingConfig
from magmax_jax.config.model import ModelConfig
from magmax_jax.config.registered import listing
from magmax_jax.config.running import CheckpointConfig, MeshConfig
from magmax_jax.config.scenario import ScenarioConfig
from magmax_jax.config.training import MethodConfig, TrainConfig
from magmax_jax.errors import UserError
from magmax_jax.registry import RULES

LATER = (
    ("model", "text_source"),
    ("checkpoint", "task_bits"),
    ("method", "fisher_images"),
    ("merging", "scales"),
    ("method", "start"),
    ("merging", "matrices"),
    ("merging", "refit_images"),
)
"""Parts and fields that earlier versions lacked; None by default."""


@dataclass(frozen=True)
class ExperimentConfig:
    """One run: a model, a scenario, a method, and the merges made after every task."""

    model: ModelConfig = field(default_factory=ModelConfig)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    merges: Annotated[tuple[str, ...], listing(RULES)] = ("max_magnitude", "average", "random_mix")
    """Merges to make after every task: RULE or RULE@SCALE; RULE may be your own, module:function.
    Scales of one rule share its state. RULE+REFIT@SCALE also refits the merged model's last map
    after every task, from sums over its images: RULE+lda by linear discriminant analysis."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    eval_batch_size: int = 256
    evaluate: Literal["every", "last"] | int = "every"
    """Tasks after which models are evaluated: every one, only the last, or every N-th and the last.
    Training and merges are not affected; forgetting and transfer need every task."""
    seed: int = 5

    def __post_init__(self) -> None:
        size = self.eval_batch_size
        require(size > 0, f"eval_batch_size is {size}: it must be positive")
        every = self.evaluate
        require(
            isinstance(every, str) or every > 0,
            f"evaluate is {every}: choose every, last or a positive number of tasks",
        )
        require(
            self.merging.scales is None or self.scenario.validation > 0,
            "merging.scales is set but no training images are held out for choosing one: set "
            "scenario.validation, e.g. 0.1, or leave out the scales (merging.scales=None)",
        )
        require(self.seed >= 0, f"seed is {self.seed}: it must not be negative")

    def replace(self, **changes: Any) -> "ExperimentConfig":
        """A copy with some fields changed; the others are kept.

        >>> config = ExperimentConfig().replace(seed=3, train={"epochs": 2})
        >>> config.seed, config.train.epochs, config.train.batch_size
        (3, 2, 128)

        A field of a part may also be written with a dot: `**{"train.epochs": 2}`.

        Raises:
          UserError: there is no such field, or a value does not fit its field.
        """
        return changed(self, changes)

    def evaluated_after(self, tasks: int) -> tuple[int, ...]:
        """Numbers of the tasks after which models are evaluated; always includes the last.

        >>> ExperimentConfig(evaluate=3).evaluated_after(7)
        (3, 6, 7)
        """
        named = {"every": 1, "last": tasks}
        step = self.evaluate if isinstance(self.evaluate, int) else named[self.evaluate]
        return tuple(task for task in range(1, tasks + 1) if task % step == 0 or task == tasks)

    def to_json(self) -> str:
        """All fields except unset ones in `LATER`, and `evaluate` if it has its default.

        This text identifies runs and names grid cells, so it must stay what it was before these
        fields were added.
        """
        settings = dataclasses.asdict(self)
        if self.evaluate == ExperimentConfig.evaluate:
            del settings["evaluate"]
        for part, field_ in LATER:
            if settings[part][field_] is None:
                del settings[part][field_]
        return json.dumps(settings, indent=2) + "\n"

    @classmethod
    def from_file(cls, path: Path | str) -> "ExperimentConfig":
        """Reads what `to_json` wrote; fields missing from the file keep their defaults.

        Raises:
          UserError: the file is missing, not JSON, or not a configuration.
        """
        path = Path(path)
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such configuration file") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: it cannot be read as a configuration ({error}): give the config.json "
                "of a run"
            ) from None
        try:
            return from_json(cls, value, str(path))
        except UserError as error:
            text = str(error)
            raise UserError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None
