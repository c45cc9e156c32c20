"""The configuration: frozen dataclasses, one for each part of an experiment."""

from typing import TYPE_CHECKING

from magmax_jax.packages import lazy_names

if TYPE_CHECKING:
    from magmax_jax.config.experiment import ExperimentConfig
    from magmax_jax.config.merging import MergingConfig, SweepConfig
    from magmax_jax.config.model import ModelConfig
    from magmax_jax.config.registered import listing, one_of
    from magmax_jax.config.running import CheckpointConfig, MeshConfig
    from magmax_jax.config.scenario import ScenarioConfig
    from magmax_jax.config.training import LAST, PRETRAINED, MethodConfig, TrainConfig

_HOMES = {
    "LAST": "training",
    "PRETRAINED": "training",
    "CheckpointConfig": "running",
    "ExperimentConfig": "experiment",
    "MergingConfig": "merging",
    "MeshConfig": "running",
    "MethodConfig": "training",
    "ModelConfig": "model",
    "ScenarioConfig": "scenario",
    "SweepConfig": "merging",
    "TrainConfig": "training",
    "listing": "registered",
    "one_of": "registered",
}
"""Public name -> the module that defines it."""
__all__ = [
    "LAST",
    "PRETRAINED",
    "CheckpointConfig",
    "ExperimentConfig",
    "MergingConfig",
    "MeshConfig",
    "MethodConfig",
    "ModelConfig",
    "ScenarioConfig",
    "SweepConfig",
    "TrainConfig",
    "listing",
    "one_of",
]

__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: merging files needs `listing` alone."""
