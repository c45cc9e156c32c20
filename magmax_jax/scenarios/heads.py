"""The prompts of a scenario's classifiers, and notes about them."""

from collections.abc import Sequence

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import published
from magmax_jax.data.catalogue import find
from magmax_jax.data.own_names import OwnNames, as_called
from magmax_jax.errors import some
from magmax_jax.scenarios.datasets_list import Member
from magmax_jax.scenarios.scenario import Head


def heads_of(
    config: ScenarioConfig,
    members: Sequence[Member],
    class_names: Sequence[Sequence[str]],
    recorded: Sequence[str] = (),
) -> tuple[list[Head], list[str]]:
    """A head for each data set, and notes on their class names.

    Earlier versions used plain folder names in prompts. Runs from then are resumed and evaluated
    with the same names: other names would change their heads.

    Args:
      members: the data sets.
      class_names: of each, as in the data.
      recorded: class names of all heads, as a run recorded them; () for a new run.

    Raises:
      UserError: a class is a WordNet id for which there is no name.
    """
    found = [_as_called(config, *each) for each in zip(members, class_names, strict=True)]
    if not recorded or [name for own in found for name in own.names] != list(recorded):
        found = [
            published.names_as(config.names, member.dataset, names, member.name)
            for member, names in zip(members, class_names, strict=True)
        ]
    templates = [config.templates or published.templates(each.dataset) for each in members]
    heads = [Head(own.names, each) for own, each in zip(found, templates, strict=True)]
    notes = [
        f"{member.name}: {note}"
        for member, own in zip(members, found, strict=True)
        for note in (own.note, _bare(own, config))
        if note
    ]
    return heads, notes


def _as_called(config: ScenarioConfig, member: Member, class_names: Sequence[str]) -> OwnNames:
    """The names that earlier versions used in prompts."""
    if find(member.dataset) is None:
        return as_called(class_names)
    return published.names_as(config.names, member.dataset, class_names, member.name)


def _bare(own: OwnNames, config: ScenarioConfig) -> str:
    if not own.bare or config.templates:
        return ""
    return (
        f"classes are named by numbers only ({some(own.names)}), so prompts do not describe them: "
        "give their folders names, or set --scenario.templates to say what the numbers are"
    )
