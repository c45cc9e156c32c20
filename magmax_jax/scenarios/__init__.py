"""Streams of tasks: new classes, domains or data sets, or more images of the same classes."""

from magmax_jax.scenarios.build import build_scenario, build_test_scenario
from magmax_jax.scenarios.datasets_list import Member, members_of, parse_datasets
from magmax_jax.scenarios.kinds.base import (
    Data,
    Division,
    ScenarioKind,
    arrival_order,
    even_shares,
    numbered,
)
from magmax_jax.scenarios.scenario import Head, Scenario, Task, at_once, curriculum, validating

__all__ = [
    "Data",
    "Division",
    "Head",
    "Member",
    "Scenario",
    "ScenarioKind",
    "Task",
    "arrival_order",
    "at_once",
    "build_scenario",
    "build_test_scenario",
    "curriculum",
    "even_shares",
    "members_of",
    "numbered",
    "parse_datasets",
    "validating",
]
