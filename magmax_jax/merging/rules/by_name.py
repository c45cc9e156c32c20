"""Looks up rules by name and options, as given by command lines, configurations or other rules."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import MergeRule
from magmax_jax.registry import RULES


def named(name: str, seed: int = 0, **given: Any) -> MergeRule:
    """The rule of that name; `seed` is for rules that draw at random, `given` are its own options.

    Args:
      name: of a bundled or registered rule, or `module:function` (or a `MergeRule` instead of the
        function), whose module is then imported.

    >>> named("ties", density=0.1) is RULES["ties"](density=0.1)
    True

    Raises:
      UserError: there is no such rule or option, or a required option is missing.
    """
    known = options(name)
    for option in given:
        if option not in known:
            allowed = f"its options are {', '.join(known)}" if known else "it has none"
            raise UserError(f"{name} has no option {option!r}: {allowed}")
    missing = [o for o, default in known.items() if default is inspect.Parameter.empty]
    if absent := [option for option in missing if option not in given]:
        raise UserError(f"{name} needs {', '.join(absent)}")
    if "seed" in known:
        given["seed"] = seed
    found: Any = RULES[name]
    rule = found if isinstance(found, MergeRule) else found(**given)
    if not isinstance(rule, MergeRule):
        raise UserError(f"{name} does not return a MergeRule ({type(rule).__name__}): {_WANTED}")
    return rule.on_any_mesh()


def options(name: str) -> dict[str, Any]:
    """A rule's options and their defaults; `inspect.Parameter.empty` for required ones.

    >>> options("dare")
    {'drop': 0.5, 'seed': 0}

    Raises:
      UserError: there is no such rule.
    """
    return {option: parameter.default for option, parameter in _parameters(name).items()}


def takes_several(name: str, option: str) -> bool:
    """Whether a rule's option is annotated as a sequence, like `weights`.

    >>> takes_several("weighted_average", "weights"), takes_several("ties", "density")
    (True, False)

    Raises:
      UserError: there is no such rule.
    """
    parameters = _parameters(name)
    kind = parameters[option].annotation if option in parameters else None
    return any(get_origin(part) is Sequence for part in (kind, *get_args(kind)))


_WANTED = "name a function of the rule's options that returns a MergeRule"


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """The options of a rule's factory, by name; none for a rule given as a value."""
    found: Any = RULES[name]  # a user's own may be anything
    if isinstance(found, MergeRule):
        return {}
    if inspect.isclass(found):
        raise UserError(f"{name} is a class: {_WANTED}")
    try:
        parameters = _signature(found).parameters
    except (TypeError, ValueError):
        raise UserError(f"{name} is not a rule ({type(found).__name__}): {_WANTED}") from None
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {option: p for option, p in parameters.items() if p.kind not in anything}


def _signature(found: Any) -> inspect.Signature:
    """Its signature, with annotations as values where their names are defined at run time."""
    try:
        return inspect.signature(found, eval_str=True)
    except Exception:  # evaluating an annotation may raise anything
        return inspect.signature(found)
