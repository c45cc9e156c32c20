"""From a configuration to a scenario: data is loaded, then divided into tasks."""

from collections.abc import Sequence

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import published
from magmax_jax.data.concat import join_datasets
from magmax_jax.data.load import load_source
from magmax_jax.data.source import Source
from magmax_jax.errors import UserError
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.datasets_list import Member, members_of
from magmax_jax.scenarios.kinds.split import divide
from magmax_jax.scenarios.scenario import Head, Scenario


def build_scenario(
    config: ScenarioConfig, seed: int, given: tuple[Source, Source] | None = None
) -> Scenario:
    """Loads the data and divides it into tasks; `seed` decides what is random in that.

    Args:
      given: training and test images, in place of those that the configuration names.

    Raises:
      UserError: a data set cannot be read, or does not divide as the configuration says.
    """
    kind, members = SCENARIO_KINDS[config.kind], _members(config, seed)
    names = [member.name for member in members]
    if given is None:
        trains = [load_source(member.dataset, "train", config.data_dir) for member in members]
        tests = [load_source(member.dataset, "test", config.data_dir) for member in members]
    elif kind.reads_several:
        raise UserError(
            f"scenario.kind is {config.kind}, which reads several data sets by their names: images "
            "that are passed are one data set, so choose another kind"
        )
    else:
        trains, tests = [given[0]], [given[1]]
    heads = []
    for member, train, test in zip(members, trains, tests, strict=True):
        _check_same(member.name, "class", train.class_names, test.class_names)
        _check_same(member.name, "domain", train.domain_names, test.domain_names)
        plain = config.names == "plain"
        class_names = published.prompt_names(member.dataset, train.class_names, plain)
        heads.append(Head(class_names, config.templates or published.templates(member.dataset)))
    if kind.reads_several:
        train, test = join_datasets(trains, names), join_datasets(tests, names)
    else:
        (train,), (test,) = trains, tests
    sizes = [len(head.class_names) for head in heads]
    tasks = divide(config, members, np.cumsum(sizes) - sizes, train, test, seed)
    return Scenario(
        name=kind.name(names),
        train=train,
        test=test,
        tasks=tasks,
        heads=tuple(heads),
        domain_names=() if kind.tasks_are_domains else test.domain_names,
    )


def _members(config: ScenarioConfig, seed: int) -> Sequence[Member]:
    """The data sets in the order in which they are learned."""
    members = members_of(config)
    if config.order == "random" and SCENARIO_KINDS[config.kind].reads_several:
        return [members[i] for i in np.random.default_rng(seed).permutation(len(members))]
    return members


def _check_same(dataset: str, what: str, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train == test:
        return
    for split, other, extra in (
        ("train", "test", sorted(set(train) - set(test))),
        ("test", "train", sorted(set(test) - set(train))),
    ):
        if extra:
            raise UserError(
                f"{dataset}: {what} {', '.join(extra[:5])} is in {split} but not in {other}; both "
                "must hold the same ones"
            )
    raise UserError(f"{dataset}: train and test list the same {what} names in different orders")
