"""Rules by their names and options, as command lines, configurations and other rules give them."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import MergeRule
from magmax_jax.registry import RULES


def named(name: str, seed: int = 0, **given: Any) -> MergeRule:
    """The rule of that name; `seed` is for those that draw, further arguments are the rule's own.

    Args:
      name: of a bundled or registered rule, or `module:function` (or a `MergeRule` in place of the
        function), whose module is then imported.

    >>> named("ties", density=0.1) is RULES["ties"](density=0.1)
    True

    Raises:
      UserError: there is none, or it has no such option, or it needs one that is not given.
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
        raise UserError(f"{name} returns no MergeRule ({type(rule).__name__}): {_WANTED}")
    return rule.on_any_mesh()


def options(name: str) -> dict[str, Any]:
    """A rule's options and their defaults; that of a required one is `inspect.Parameter.empty`.

    >>> options("dare")
    {'drop': 0.5, 'seed': 0}

    Raises:
      UserError: there is no such rule.
    """
    return {option: parameter.default for option, parameter in _parameters(name).items()}


def takes_several(name: str, option: str) -> bool:
    """Whether an option of a rule is annotated as a sequence, as `weights` is.

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
    """The options of a rule's factory, by name; a rule that is a value itself has none."""
    found: Any = RULES[name]  # of a user's own, anything
    if isinstance(found, MergeRule):
        return {}
    if inspect.isclass(found):
        raise UserError(f"{name} is a class: {_WANTED}")
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        raise UserError(f"{name} is no rule ({type(found).__name__}): {_WANTED}") from None
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {option: p for option, p in parameters.items() if p.kind not in anything}
