"""Whether a configuration contradicts itself, before any data or model is loaded."""

from magmax_jax.config import ExperimentConfig
from magmax_jax.scenarios import members_of
from magmax_jax.training import check_method


def check_config(config: ExperimentConfig) -> None:
    """Raises a UserError if the method or the list of data sets cannot be what it says."""
    check_method(config.method)
    members_of(config.scenario)
