"""Fine-tuning the image tower against a frozen head."""

from magmax_jax.training.loop import fine_tune
from magmax_jax.training.regularizers import Regularizer, build_regularizer
from magmax_jax.training.schedule import warmup_cosine, warmup_steps
from magmax_jax.training.step import (
    Forward,
    Memory,
    Metrics,
    Objective,
    Params,
    Trainer,
    TrainState,
    cross_entropy,
    make_trainer,
    own_classes,
)

__all__ = [
    "Forward",
    "Memory",
    "Metrics",
    "Objective",
    "Params",
    "Regularizer",
    "TrainState",
    "Trainer",
    "build_regularizer",
    "cross_entropy",
    "fine_tune",
    "make_trainer",
    "own_classes",
    "warmup_cosine",
    "warmup_steps",
]
