"""Published figures, to be shown beside ours.

No single cell of the paper's tables (arXiv 2407.06322) was available to us, only its headline, a
mean of 84.5 % for MagMax over its continual-learning benchmarks, 2.1 points above the second best;
and its forgetting on tasks 1 and 2, sequential 25.7 and 22.3 points, MagMax 9.8 and 1.7. The cells
below are as later papers quote or repeat them: all are secondary sources, marked so in the tables.
"""

from typing import NamedTuple

from magmax_jax.config import ExperimentConfig, ScenarioConfig, TrainConfig
from magmax_jax.registry import SCENARIO_KINDS

MODEL = "vit-base-patch16"
"""Substring of the source of the model with which the figures below were measured."""


class Figure(NamedTuple):
    """One accuracy in per cent, with the information needed to compare it."""

    percent: float
    source: str


_QUOTED = "secondary source: ViT-B/16, last accuracy, as later papers quote MagMax"
_REPEATED = (
    "secondary source and another setting: eight checkpoints fine-tuned independently, ViT-B/16, "
    "random orders (MINGLE's table)"
)

METRIC = "last_accuracy"
"""The metric of all of them."""
FIGURES: dict[ScenarioConfig, dict[str, Figure]] = {
    ScenarioConfig(dataset="cifar100"): {"sequential, MagMax": Figure(79.0, _QUOTED)},
    ScenarioConfig(dataset="imagenet_r"): {"sequential, MagMax": Figure(80.8, _QUOTED)},
    ScenarioConfig(dataset="cub200"): {"sequential, MagMax": Figure(62.1, _QUOTED)},
    ScenarioConfig(kind="datasets", datasets=("eight",)): {
        "zero-shot": Figure(55.4, _REPEATED),
        "sequential fine-tuning": Figure(82.9, _REPEATED),
        "independent, average": Figure(72.3, _REPEATED),
        "independent, MagMax": Figure(76.7, _REPEATED),
    },
}
"""Scenario -> row of the table -> figure."""


def figures(setting: ExperimentConfig, metric: str = METRIC) -> dict[str, Figure]:
    """The published figures of a setting and a metric, by row.

    Empty for another metric, model, recipe, order, or part of the data.
    """
    scenario = setting.scenario
    as_published = (
        metric == METRIC
        and MODEL in setting.model.source.lower()
        and setting.model.text_source is None  # fine-tuned towers are often named after the model
        and setting.train == TrainConfig()
        and scenario.order == "published"
        and not scenario.shuffle_tasks
        and scenario.limit_per_class is None
        and not scenario.validation
    )
    if not as_published:
        return {}
    return next((found for known, found in FIGURES.items() if _same(known, scenario)), {})


def _same(known: ScenarioConfig, other: ScenarioConfig) -> bool:
    """Whether two scenarios divide the same data in the same way."""
    reads = ("kind", *SCENARIO_KINDS[known.kind].reads)
    return all(getattr(known, name) == getattr(other, name) for name in reads)
