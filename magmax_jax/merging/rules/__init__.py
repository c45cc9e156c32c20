"""Merge rules: how the task vectors tau_1 ... tau_T become one.

Streaming, with a state that does not grow with the tasks: `max_magnitude`, `min_magnitude`,
`average`, `task_arithmetic`, `weighted_average`, `random_mix`, `ema`, `dare`, `breadcrumbs`,
`magnitude_prune`, `emr`, `fisher`, `iso_c`, `opcm`. Collecting all task vectors: `ties`, `della`,
`model_stock`, `slerp`, `tsv_m`, `consensus`. The other names here are for callers who merge leaf by
leaf (thresholds, balances, norms), and for authors of rules (`collecting`, `leafwise`, ...).

A rule of your own is a function of its options that returns a `MergeRule`. `RULES.register` makes
its name known to `named` and `--rule`; what it declares decides how files are merged with it:

    @RULES.register("median")
    def median() -> MergeRule:
        def merge(*taus):
            return jnp.median(jnp.stack(taus), axis=0)

        return collecting(lambda taus: leafwise(merge, *taus), default_scale=1.0, scope="entry")
"""

import inspect
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from magmax_jax.errors import UserError
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
from magmax_jax.merging.rules.stochastic import dare, della, random_mix
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.registry import RULES

__all__ = [
    "RULES",
    "Informed",
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
    "sign_balance",
    "slerp",
    "squared_norm",
    "takes_several",
    "task_arithmetic",
    "ties",
    "tsv_m",
    "weighted_average",
]


def named(name: str, seed: int = 0, **given: Any) -> MergeRule:
    """The rule of that name; `seed` is for those that draw, further arguments are the rule's own.

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
    rule: MergeRule = RULES[name](**given)
    return rule.on_any_mesh()


def options(name: str) -> dict[str, Any]:
    """A rule's options and their defaults; that of a required one is `inspect.Parameter.empty`.

    >>> options("dare")
    {'drop': 0.5, 'seed': 0}

    Raises:
      UserError: there is no such rule.
    """
    return {o: p.default for o, p in inspect.signature(RULES[name]).parameters.items()}


def takes_several(name: str, option: str) -> bool:
    """Whether an option of a rule is annotated as a sequence, as `weights` is.

    >>> takes_several("weighted_average", "weights"), takes_several("ties", "density")
    (True, False)

    Raises:
      UserError: there is no such rule.
    """
    parameters = inspect.signature(RULES[name]).parameters
    kind = parameters[option].annotation if option in parameters else None
    return any(get_origin(part) is Sequence for part in (kind, *get_args(kind)))
