"""Small runs for tests of any model family: two tasks of scikit-learn's digits."""

from pathlib import Path

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.runs.directory import RunDirectory


def small_run(source: Path, learning_rate: float, freeze: tuple[str, ...]) -> ExperimentConfig:
    """Keeps every theta_t and their MagMax merge."""
    return ExperimentConfig(
        model=ModelConfig(str(source)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=9),
        train=TrainConfig(
            epochs=4,
            batch_size=15,
            learning_rate=learning_rate,
            warmup_fraction=0.1,
            freeze=freeze,
        ),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        eval_batch_size=32,
    )


def aware_accuracies(out: RunDirectory) -> dict[tuple[int, str], float]:
    """(after task, model) -> accuracy among each task's own classes."""
    return {
        (row.after_task, row.model): row.accuracy
        for row in out.rows()
        if (row.protocol, row.group) == ("aware", "all")
    }
