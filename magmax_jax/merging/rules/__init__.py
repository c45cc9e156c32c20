"""Merge rules: ways to combine the task vectors tau_1 ... tau_T into one.

Streaming, with a state that does not grow with the tasks: `max_magnitude`, `min_magnitude`,
`average`, `task_arithmetic`, `weighted_average`, `random_mix`, `ema`, `scaled_last`,
`max_increment`, `ema_magmax`, `dare`, `breadcrumbs`, `magnitude_prune`, `emr`, `fisher`,
`adam_weighted`, `adam_selected`, `iso_c`, `opcm`, `tsv_stream`, `negmerge`. Collecting all task
vectors: `ties`, `della`, `model_stock`, `slerp`, `tsv_m`, `consensus`, and mergekit's
`linear_combination`, `sparse_task_arithmetic`, `nuslerp`, `multislerp`, `sce`. Applied to another
rule: `norm_matched`, `lines`. The other names here are for callers that merge leaf by leaf
(thresholds, balances, norms), and for rule authors (`collecting`, `leafwise`, ...).

To write your own rule, write a function of its options that returns a `MergeRule`. If its module is
installed or in the working directory, use `module:function` wherever a rule name is expected:
`my_rules:median`. If the module is imported anyway, `register` gives it a short name. The fields it
sets decide how files are merged with it:

    @register("median")
    def median() -> MergeRule:
        def merge(*taus):
            return jnp.median(jnp.stack(taus), axis=0)

        return collecting(lambda taus: leafwise(merge, *taus), default_scale=1.0, scope="entry")

Using `module:function` executes the module, so treat a run's `config.json` as code: read its
`merges` and `method.start` before you run, evaluate, analyse or merge from somebody else's run.
Reports, tables and `watch` import nothing. Neither does a state file: to continue from it, name the
rule (`--rule`).
"""

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
from magmax_jax.merging.rules.adam import adam_selected, adam_weighted
from magmax_jax.merging.rules.by_name import named, options, takes_several
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
from magmax_jax.merging.rules.layers import lines
from magmax_jax.merging.rules.linear import linear_combination
from magmax_jax.merging.rules.magnitude import (
    breadcrumbs,
    global_rank,
    global_threshold,
    magnitude_prune,
)
from magmax_jax.merging.rules.negmerge import negmerge
from magmax_jax.merging.rules.norms import norm_matched
from magmax_jax.merging.rules.over_time import ema_magmax, max_increment, scaled_last
from magmax_jax.merging.rules.sce import sce
from magmax_jax.merging.rules.sign_consensus import consensus, sign_balance, ties
from magmax_jax.merging.rules.sparse import sparse_task_arithmetic
from magmax_jax.merging.rules.spectral import iso_c, opcm, opcm_rescale, tsv_m
from magmax_jax.merging.rules.spectral_stream import tsv_stream
from magmax_jax.merging.rules.spherical import multislerp, nuslerp
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
    "adam_selected",
    "adam_weighted",
    "average",
    "breadcrumbs",
    "collecting",
    "consensus",
    "dare",
    "della",
    "ema",
    "ema_magmax",
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
    "linear_combination",
    "lines",
    "magnitude_prune",
    "max_increment",
    "max_magnitude",
    "min_magnitude",
    "model_stock",
    "multislerp",
    "named",
    "negmerge",
    "norm_matched",
    "nuslerp",
    "opcm",
    "opcm_rescale",
    "options",
    "random_mix",
    "register",
    "scaled_last",
    "sce",
    "sign_balance",
    "slerp",
    "sparse_task_arithmetic",
    "squared_norm",
    "takes_several",
    "task_arithmetic",
    "ties",
    "tsv_m",
    "tsv_stream",
    "weighted_average",
]


register = RULES.register
"""Decorator `@register("median")`: registers a function of a rule's options under that name."""
