"""Classes that no head can distinguish, because their prompts have the same token ids."""

from collections.abc import Sequence

from magmax_jax.errors import some
from magmax_jax.models import Model
from magmax_jax.models.zero_shot import alike
from magmax_jax.scenarios import Scenario


def alike_prompts(model: Model, scenario: Scenario) -> list[str]:
    """A warning if classes of one head have the same prompts, token by token.

    Raises:
      UserError: as `models.zero_shot_head` does.
    """
    groups, start = [], 0
    for head in scenario.heads:
        found = alike(model, *head)
        groups += [_listed(scenario.test.class_names, [start + i for i in each]) for each in found]
        start += len(head.class_names)
    if not groups:
        return []
    return [
        f"prompts are the same for {some(groups, 5)}: no model can distinguish these classes, and "
        "images of all but the first of them count as wrong; merge their folders, or give them "
        "names that differ in more than case and spaces"
    ]


def _listed(names: Sequence[str], classes: Sequence[int]) -> str:
    """The classes' names; with their numbers, too, if two of them share a name."""
    called = [names[i] for i in classes]
    if len(set(called)) == len(called):
        return " = ".join(map(repr, called))
    return " = ".join(f"{name!r} (class {i})" for name, i in zip(called, classes, strict=True))
