"""The configuration: frozen dataclasses, one for each part of an experiment."""

from magmax_jax.config.experiment import ExperimentConfig
from magmax_jax.config.merging import MergingConfig, SweepConfig
from magmax_jax.config.model import ModelConfig
from magmax_jax.config.registered import listing, one_of
from magmax_jax.config.running import CheckpointConfig, MeshConfig
from magmax_jax.config.scenario import ScenarioConfig
from magmax_jax.config.training import LAST, PRETRAINED, MethodConfig, TrainConfig

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
