"""Streams of tasks: of new classes, domains or data sets, or of more images of the same."""

from magmax_jax.scenarios.build import build_scenario
from magmax_jax.scenarios.datasets_list import Member, members_of, parse_datasets
from magmax_jax.scenarios.scenario import Head, Scenario, Task, at_once, curriculum, validating

__all__ = [
    "Head",
    "Member",
    "Scenario",
    "Task",
    "at_once",
    "build_scenario",
    "curriculum",
    "members_of",
    "parse_datasets",
    "validating",
]
