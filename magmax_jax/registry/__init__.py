"""The extension points of magmax_jax: one registry per kind of value.

A value registers itself in the module that defines it; from then on it is found by name, and no
other code compares that name. The tables below map each bundled name to its module, so that names
can be listed (for `--help`, in messages) before anything slow is imported.

    from magmax_jax.registry import RULES

    @RULES.register("my_rule")
    def my_rule(share: float = 0.5) -> MergeRule: ...
"""

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from magmax_jax.registry.registry import Registry

__all__ = [
    "ACCELERATORS",
    "CHECKS",
    "COMMANDS",
    "DATA_SETS",
    "METRICS",
    "MODEL_FAMILIES",
    "REFITS",
    "REGULARIZERS",
    "REPORT_SECTIONS",
    "RULES",
    "SCENARIO_KINDS",
    "Registry",
]

_RULES = "magmax_jax.merging.rules"
_SECTIONS = "magmax_jax.report.sections"
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
        "scaled_last": f"{_RULES}.over_time",
        "max_increment": f"{_RULES}.over_time",
        "ema_magmax": f"{_RULES}.over_time",
        "norm_matched": f"{_RULES}.norms",
        "lines": f"{_RULES}.layers",
        "dare": f"{_RULES}.stochastic",
        "breadcrumbs": f"{_RULES}.magnitude",
        "magnitude_prune": f"{_RULES}.magnitude",
        "emr": f"{_RULES}.emr",
        "fisher": f"{_RULES}.fisher",
        "adam_weighted": f"{_RULES}.adam",
        "adam_selected": f"{_RULES}.adam",
        "iso_c": f"{_RULES}.spectral",
        "opcm": f"{_RULES}.spectral",
        "negmerge": f"{_RULES}.negmerge",
        "ties": f"{_RULES}.sign_consensus",
        "della": f"{_RULES}.stochastic",
        "model_stock": f"{_RULES}.geometric",
        "slerp": f"{_RULES}.geometric",
        "tsv_m": f"{_RULES}.spectral",
        "tsv_stream": f"{_RULES}.spectral_stream",
        "consensus": f"{_RULES}.sign_consensus",
        "linear_combination": f"{_RULES}.linear",
        "sparse_task_arithmetic": f"{_RULES}.sparse",
        "nuslerp": f"{_RULES}.spherical",
        "multislerp": f"{_RULES}.spherical",
        "sce": f"{_RULES}.sce",
    },
    imports=True,
)
"""Factories of merge rules: options -> MergeRule. `my_rules:median` is the function `median` of the
module `my_rules`, which is installed or lies in the working directory."""

REFITS: Registry[Callable[..., Any]] = Registry("refit", {"lda": "magmax_jax.refit.lda"})
"""Factories of refits: options -> Refit, which refits the last map of a merged model."""

_DATA_SETS = "data/datasets"

DATA_SETS: Registry[Any] = Registry(
    "data set",
    {
        module.name: f"magmax_jax.{_DATA_SETS.replace('/', '.')}.{module.name}"
        for module in pkgutil.iter_modules([str(Path(__file__).parents[1] / _DATA_SETS)])
    },
)
"""Data sets: each module of `magmax_jax.data.datasets` defines the one of its name."""

MODEL_FAMILIES: Registry[Any] = Registry(
    "model family",
    {"clip": "magmax_jax.models.clip.family", "siglip": "magmax_jax.models.siglip.family"},
)
"""`models.ModelFamily` values, by the `model_type` of their checkpoints' config.json."""

METRICS: Registry[Any] = Registry(
    "metric",
    dict.fromkeys(
        (
            "last_accuracy",
            "incremental_accuracy",
            "forgetting",
            "backward_transfer",
            "forward_transfer",
            "intransigence",
        ),
        "magmax_jax.evaluation.metrics",
    ),
)
"""`magmax_jax.evaluation.metrics.Metric`s: measures of learning and forgetting in a run."""

REPORT_SECTIONS: Registry[Any] = Registry(
    "report section",
    {
        "summary": f"{_SECTIONS}.summary",
        "measures": f"{_SECTIONS}.metrics",
        "over-tasks": f"{_SECTIONS}.over_tasks",
        "matrices": f"{_SECTIONS}.over_tasks",
        "forgetting": f"{_SECTIONS}.over_tasks",
        "classes": f"{_SECTIONS}.classes",
        "domains": f"{_SECTIONS}.domains",
        "training": f"{_SECTIONS}.training",
        "sweep": f"{_SECTIONS}.sweep",
        "recipes": f"{_SECTIONS}.recipes",
        "analyses": f"{_SECTIONS}.studies",
        "conflicts": f"{_SECTIONS}.conflicts",
        "pruning": f"{_SECTIONS}.pruning",
        "provenance": f"{_SECTIONS}.provenance",
        "vectors": f"{_SECTIONS}.vectors",
        "influence": f"{_SECTIONS}.transfer",
        "overhead": f"{_SECTIONS}.transfer",
        "config": f"{_SECTIONS}.reproducibility",
        "reproduce": f"{_SECTIONS}.reproducibility",
    },
)
"""`magmax_jax.report.section.Section`s: chapters of the report."""

COMMANDS: Registry[Any] = Registry(
    "command",
    {
        "run": "magmax_jax.cli.run",
        "watch": "magmax_jax.cli.watch",
        "evaluate": "magmax_jax.cli.evaluate",
        "analyse": "magmax_jax.cli.analyse",
        "report": "magmax_jax.cli.report",
        "grid": "magmax_jax.cli.grid.command",
        "table": "magmax_jax.cli.table",
        "results": "magmax_jax.cli.results",
        "prepare": "magmax_jax.cli.prepare",
        "export": "magmax_jax.cli.export",
        "merge": "magmax_jax.cli.merge",
        "inspect": "magmax_jax.cli.merge",
        "doctor": "magmax_jax.cli.doctor",
    },
)
"""`magmax_jax.cli.command.Command`s of the program `magmax`."""

REGULARIZERS: Registry[Any] = Registry(
    "regularizer",
    {
        "none": f"{_REGULARIZERS}.none",
        "ewc": f"{_REGULARIZERS}.ewc",
        "lwf": f"{_REGULARIZERS}.lwf",
        "l2_sp": f"{_REGULARIZERS}.l2_sp",
    },
)
"""Penalties that keep a model close to earlier tasks: `training.RegularizerSpec`s."""

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

_CHECKS = "magmax_jax.doctor.checks"

CHECKS: Registry[Any] = Registry(
    "check",
    {
        "versions": f"{_CHECKS}.versions",
        "devices": f"{_CHECKS}.devices",
        "memory": f"{_CHECKS}.memory",
        "caches": f"{_CHECKS}.caches",
        "disk": f"{_CHECKS}.disk",
        "hub": f"{_CHECKS}.hub",
        "nan_in_max": f"{_CHECKS}.nan_in_max",
        "cudnn": f"{_CHECKS}.cudnn",
    },
)
"""`doctor.check.Check`s of `magmax doctor`, in the order in which it shows them."""

ACCELERATORS: Registry[Any] = Registry(
    "accelerator",
    dict.fromkeys(("nvidia", "tpu"), "magmax_jax.devices.accelerators"),
)
"""`devices.accelerators.Accelerator`s: how to see them without JAX, and the extra for each."""
