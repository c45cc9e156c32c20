"""Merge rules: how the task vectors tau_1 ... tau_T become one.

Streaming, with a state that does not grow with the tasks: `max_magnitude`, `min_magnitude`,
`average`, `task_arithmetic`, `weighted_average`, `random_mix`, `ema`, `dare`, `breadcrumbs`,
`magnitude_prune`, `emr`, `fisher`, `iso_c`, `opcm`, `tsv_stream`. Collecting all task vectors:
`ties`, `della`, `model_stock`, `slerp`, `tsv_m`, `consensus`. The other names here are for callers
who merge leaf by leaf (thresholds, balances, norms), and for authors of rules (`collecting`,
`leafwise`, ...).

A rule of your own is a function of its options that returns a `MergeRule`. If its module is
installed or lies in the working directory, `module:function` is its name wherever a rule is named:
`my_rules:median`. Where the module is imported anyway, `register` gives it a short name. What it
declares decides how files are merged with it:

    @register("median")
    def median() -> MergeRule:
        def merge(*taus):
            return jnp.median(jnp.stack(taus), axis=0)

        return collecting(lambda taus: leafwise(merge, *taus), default_scale=1.0, scope="entry")

Using `module:function` runs the module. A run's `config.json` is a program in this sense: read its
`merges` before you run, evaluate, analyse or merge from a run of somebody else's. Reports, tables
and `watch` import nothing. Neither does a state file: to go on with it, name the rule (`--rule`).
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from magmax_jax.errors import UserError
from magmax_jax.merging.linear_maps import LinearMap
from magmax_jax.merging.numerics.reductions import squared_norm
from magmax_jax.merging.rule import (
    Informed,
    MergeRule,
    collecting,
    factory,
    leaf_key,
    leaf_name,
    leafwise,
    leafwise_at,
)
from magmax_jax.merging.rules.elementwise import (
    Sourced,
    average,
    ema,
    max_magnitude,
    min_magnitude,
    task_arithmetic,
    weighted_average,
)
from magmax_jax.merging.rules.emr import emr, emr_modulation, emr_sums
from magmax_jax.merging.rules.fisher import fisher
from magmax_jax.merging.rules.geometric import model_stock, slerp
from magmax_jax.merging.rules.magnitude import (
    breadcrumbs,
    global_rank,
    global_threshold,
    magnitude_prune,
)
from magmax_jax.merging.rules.sign_consensus import consensus, sign_balance, ties
from magmax_jax.merging.rules.spectral import iso_c, opcm, opcm_rescale, tsv_m
from magmax_jax.merging.rules.spectral_stream import tsv_stream
from magmax_jax.merging.rules.stochastic import dare, della, random_mix
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.registry import RULES

__all__ = [
    "RULES",
    "Informed",
    "LinearMap",
    "MergeRule",
    "Sourced",
    "TaskVectors",
    "average",
    "breadcrumbs",
    "collecting",
    "consensus",
    "dare",
    "della",
    "ema",
    "emr",
    "emr_modulation",
    "emr_sums",
    "factory",
    "fisher",
    "global_rank",
    "global_threshold",
    "iso_c",
    "leaf_key",
    "leaf_name",
    "leafwise",
    "leafwise_at",
    "magnitude_prune",
    "max_magnitude",
    "min_magnitude",
    "model_stock",
    "named",
    "opcm",
    "opcm_rescale",
    "options",
    "random_mix",
    "register",
    "sign_balance",
    "slerp",
    "squared_norm",
    "takes_several",
    "task_arithmetic",
    "ties",
    "tsv_m",
    "tsv_stream",
    "weighted_average",
]


register = RULES.register
"""`@register("median")` above a function of a rule's options gives the rule that name."""


def named(name: str, seed: int = 0, **given: Any) -> MergeRule:
    """The rule of that name; `seed` is for those that draw, further arguments are the rule's own.

    Args:
      name: of a bundled or registered rule, or `module:function` (or a `MergeRule` in place of the
        function), whose module is then imported.

    >>> named("ties", density=0.1) is ties(density=0.1)
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
