"""Fine-tuning the image tower against a frozen head."""

from magmax_jax.training.loop import fine_tune
from magmax_jax.training.regularizers import (
    Regularizer,
    RegularizerSpec,
    Setup,
    build_regularizer,
    check_method,
)
from magmax_jax.training.schedule import peak_share, warmup_cosine, warmup_steps
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
    "RegularizerSpec",
    "Setup",
    "TrainState",
    "Trainer",
    "build_regularizer",
    "check_method",
    "cross_entropy",
    "fine_tune",
    "make_trainer",
    "own_classes",
    "peak_share",
    "warmup_cosine",
    "warmup_steps",
]
