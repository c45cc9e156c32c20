"""Builds a scenario from a configuration: loads the data, then divides it into tasks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data.concat import join_datasets
from magmax_jax.data.load import is_undivided, load_source, load_test_images
from magmax_jax.data.source import Source
from magmax_jax.errors import UserError, some
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.datasets_list import Member, members_of
from magmax_jax.scenarios.heads import heads_of
from magmax_jax.scenarios.kinds.split import divide
from magmax_jax.scenarios.passed_over import passed_over
from magmax_jax.scenarios.scenario import Head, Scenario


def build_scenario(
    config: ScenarioConfig,
    seed: int,
    given: tuple[Source, Source] | None = None,
    recorded: Sequence[str] = (),
) -> Scenario:
    """Loads the data and divides it into tasks, using `seed` for anything random.

    Args:
      given: training and test images, in place of those that the configuration names.
      recorded: the class names of a run that is resumed or evaluated; see `heads_of`.

    Raises:
      UserError: a data set cannot be read, or does not divide as the configuration says.
    """
    kind, members = SCENARIO_KINDS[config.kind], _members(config, seed)
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
    for member, train, test in zip(members, trains, tests, strict=True):
        _check_same(member.name, "class", train.class_names, test.class_names)
        _check_same(member.name, "domain", train.domain_names, test.domain_names)
    held_out = [
        f"{member.name} has no train/ and test/: {len(test):,} of its {len(train) + len(test):,} "
        "images are test images, one in five of each class, chosen by a hash of their names"
        for member, train, test in zip(members, trains, tests, strict=True)
        if is_undivided(member.dataset, config.data_dir)
    ]
    return _divided(config, seed, members, trains, tests, held_out, recorded)


def build_test_scenario(
    config: ScenarioConfig, seed: int, recorded: Sequence[str] = ()
) -> Scenario:
    """A scenario for models that never saw its data; training images are not read.

    The classes are those of the test images; all images of a folder without train/ and test/ are
    tested. `recorded` is that of `build_scenario`.

    Raises:
      UserError: as `build_scenario` does.
    """
    members = _members(config, seed)
    tests = [load_test_images(member.dataset, config.data_dir) for member in members]
    whole = [
        f"{member.name} has no train/ and test/: all of its {len(test):,} images are test images"
        for member, test in zip(members, tests, strict=True)
        if is_undivided(member.dataset, config.data_dir) and not member.name.endswith("/test")
    ]
    return _divided(
        config, seed, members, [_emptied(test) for test in tests], tests, whole, recorded
    )


def _divided(
    config: ScenarioConfig,
    seed: int,
    members: Sequence[Member],
    trains: Sequence[Source],
    tests: Sequence[Source],
    notes: Sequence[str],
    recorded: Sequence[str],
) -> Scenario:
    kind, names = SCENARIO_KINDS[config.kind], [member.name for member in members]
    heads, of_names = heads_of(config, members, [test.class_names for test in tests], recorded)
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
        notes=(
            *notes,
            *passed_over([*trains, *tests]),
            *of_names,
            *_shared_names(names, heads),
        ),
    )


def _emptied(source: Source) -> Source:
    """The same classes and domains without any images."""
    return replace(
        source,
        images=np.zeros((0, 1, 1, 3), np.uint8),
        labels=source.labels[:0],
        domains=None if source.domains is None else source.domains[:0],
        image_shape=None,
    )


def _shared_names(names: Sequence[str], heads: Sequence[Head]) -> list[str]:
    """A note if classes of different data sets have the same name."""
    where: dict[str, list[str]] = {}
    for name, head in zip(names, heads, strict=True):
        for class_name in dict.fromkeys(each.casefold() for each in head.class_names):
            where.setdefault(class_name, []).append(name)
    shared = {name: found for name, found in where.items() if len(found) > 1}
    if not shared:
        return []
    listed = [f"{name!r} of {' and '.join(found)}" for name, found in shared.items()]
    return [
        f"data sets share class names ({some(listed)}): among all classes a model can hardly "
        "distinguish these, so compare accuracies among each task's own classes"
    ]


def _members(config: ScenarioConfig, seed: int) -> Sequence[Member]:
    """The data sets in learning order."""
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
                "must have the same ones"
            )
    raise UserError(
        f"{dataset}: train and test list the same {what} names in different orders: pass them in "
        "one order"
    )
