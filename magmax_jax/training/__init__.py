"""Fine-tuning the image tower against a frozen head."""

from typing import TYPE_CHECKING

from magmax_jax.packages import lazy_names

if TYPE_CHECKING:
    from magmax_jax.training.loop import fine_tune
    from magmax_jax.training.optimizer import second_moments
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

_HOMES = {
    "Forward": "step",
    "Memory": "step",
    "Metrics": "step",
    "Objective": "step",
    "Params": "step",
    "Regularizer": "regularizers",
    "RegularizerSpec": "regularizers",
    "Setup": "regularizers",
    "TrainState": "step",
    "Trainer": "step",
    "build_regularizer": "regularizers",
    "check_method": "regularizers",
    "cross_entropy": "step",
    "fine_tune": "loop",
    "make_trainer": "step",
    "own_classes": "step",
    "peak_share": "schedule",
    "second_moments": "optimizer",
    "warmup_cosine": "schedule",
    "warmup_steps": "schedule",
}
"""Public name -> the module that defines it."""
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
    "second_moments",
    "warmup_cosine",
    "warmup_steps",
]


__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: reports read facts about regularizers without importing JAX."""
