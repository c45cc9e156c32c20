"""A finished run shared by the tests of several commands, trained once."""

import pytest

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.train import run


@pytest.fixture(scope="session")
def done(tiny_clip, tmp_path_factory):
    """Five tasks, every task's model kept. Tests may add files but change none of the run's own."""
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "done")
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=5, limit_per_class=6, validation=0.2, order="random"
        ),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        eval_batch_size=32,
        seed=3,
    )
    run(config, out)
    return out
