"""Domain-incremental: every task brings a new domain of the same classes."""

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.errors import ConfigError
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.kinds.base import Data, Division, ScenarioKind, arrival_order


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """One task per domain; each covers all classes."""
    if any(part.source.domains is None for part in data.parts):
        raise ConfigError(
            f"{config.dataset} has no domains: use scenario.kind=class, or a folder laid out as "
            "{train,test}/domain/class/*"
        )
    order = arrival_order(config, data.train.domain_names, seed)
    train, test = (np.argsort(order)[part.source.domains] for part in data.parts)
    names = [data.train.domain_names[domain] for domain in order]
    classes = [np.arange(len(data.train.class_names))] * len(names)
    return Division(names, classes, (train, test))


def _shares(config: ScenarioConfig, classes: int, domains: int) -> list[float]:
    """Assumes that all domains have equally many images."""
    return [1 / domains] * domains


SCENARIO_KINDS.register(
    "domain",
    ScenarioKind(
        title="domain-incremental",
        divide=divide,
        shares=_shares,
        parts="domains",
        reads=("dataset",),
        tasks_are_domains=True,
        published_divisor="two",
    ),
)
