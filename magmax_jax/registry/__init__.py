"""What can be added to magmax_jax: a registry for each kind of thing, and nothing else.

A value registers itself in the module that defines it; from then on it is found by its name, and
nobody else compares that name. The tables below say in which module each bundled name is defined,
so that names can be listed (for `--help`, in messages) before anything slow is imported.

    from magmax_jax.registry import RULES

    @RULES.register("my_rule")
    def my_rule(share: float = 0.5) -> MergeRule: ...
"""

from collections.abc import Callable
from typing import Any

from magmax_jax.registry.registry import Registry

__all__ = ["REGULARIZERS", "RULES", "SCENARIO_KINDS", "Registry"]

_RULES = "magmax_jax.merging.rules"
_REGULARIZERS = "magmax_jax.training.regularizers"
_KINDS = "magmax_jax.scenarios.kinds"

RULES: Registry[Callable[..., Any]] = Registry(
    "merge rule",
    {
        "max_magnitude": f"{_RULES}.elementwise",
        "min_magnitude": f"{_RULES}.elementwise",
        "average": f"{_RULES}.elementwise",
        "task_arithmetic": f"{_RULES}.elementwise",
        "weighted_average": f"{_RULES}.elementwise",
        "random_mix": f"{_RULES}.stochastic",
        "ema": f"{_RULES}.elementwise",
        "dare": f"{_RULES}.stochastic",
        "breadcrumbs": f"{_RULES}.magnitude",
        "magnitude_prune": f"{_RULES}.magnitude",
        "emr": f"{_RULES}.emr",
        "fisher": f"{_RULES}.fisher",
        "iso_c": f"{_RULES}.spectral",
        "opcm": f"{_RULES}.spectral",
        "ties": f"{_RULES}.sign_consensus",
        "della": f"{_RULES}.stochastic",
        "model_stock": f"{_RULES}.geometric",
        "slerp": f"{_RULES}.geometric",
        "tsv_m": f"{_RULES}.spectral",
        "consensus": f"{_RULES}.sign_consensus",
    },
)
"""Factories of merge rules: options -> MergeRule."""

REGULARIZERS: Registry[Any] = Registry(
    "regularizer",
    {
        "none": f"{_REGULARIZERS}.none",
        "ewc": f"{_REGULARIZERS}.ewc",
        "lwf": f"{_REGULARIZERS}.lwf",
        "l2_sp": f"{_REGULARIZERS}.l2_sp",
    },
)
"""Penalties that hold a model near the tasks before: `training.RegularizerSpec`s."""

SCENARIO_KINDS: Registry[Any] = Registry(
    "scenario kind",
    {
        "class": f"{_KINDS}.class_incremental",
        "data": f"{_KINDS}.data_incremental",
        "domain": f"{_KINDS}.domain_incremental",
        "datasets": f"{_KINDS}.dataset_sequence",
    },
)
"""How data is divided into tasks: `scenarios.ScenarioKind`s, in the order of a table's columns."""
