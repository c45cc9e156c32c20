"""Shared by the tests of every rule: rules with options, a small model, and folding."""

import hypothesis.strategies as st
import jax
import numpy as np
from hypothesis.extra import numpy as hnp

from magmax_jax.merging import MergeRule, rules
from magmax_jax.merging.rule import informed

# XLA on CPU flushes subnormal numbers to zero, and sums of tiny ones may be subnormal.
FINITE = st.floats(-1e3, 1e3, width=32, allow_subnormal=False).map(
    lambda x: x if abs(x) > 1e-20 else 0.0
)
TAUS = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(7)), elements=FINITE)
"""One to five task vectors of seven entries; ties and zeros are frequent."""

STREAMING = {
    "max_magnitude": rules.max_magnitude(),
    "provenance": rules.max_magnitude(provenance=True),
    "min_magnitude": rules.min_magnitude(),
    "average": rules.average(),
    "task_arithmetic": rules.task_arithmetic(),
    "weighted_average": rules.weighted_average([1.0, 2.0, 0.5]),
    "random_mix": rules.random_mix(seed=3),
    "ema": rules.ema(0.7),
    "scaled_last": rules.scaled_last(),
    "max_increment": rules.max_increment(),
    "ema_magmax": rules.ema_magmax(0.7),
    "norm_matched": rules.norm_matched(),
    "lines": rules.lines(layers=3),
    "dare": rules.dare(seed=3),
    "breadcrumbs": rules.breadcrumbs(0.5, 0.1),
    "magnitude_prune": rules.magnitude_prune(),
    "global_prune": rules.magnitude_prune(threshold="global"),
    "emr": rules.emr(),
    "fisher": rules.fisher(),
    "adam_weighted": rules.adam_weighted(),
    "adam_selected": rules.adam_selected(),
    "iso_c": rules.iso_c(stacked=True),
    "opcm": rules.opcm(stacked=True),
    "negmerge": rules.negmerge(),
    "tsv_stream": rules.tsv_stream(stacked=True),
}
COLLECTING = {
    "ties": rules.ties(),
    "peft_ties": rules.ties(threshold="per_tensor", majority=1),
    "della": rules.della(seed=3),
    "model_stock": rules.model_stock(),
    "slerp": rules.slerp(),
    "tsv_m": rules.tsv_m(stacked=True),
    "consensus": rules.consensus(),
    "linear_combination": rules.linear_combination(),
    "unnormalised_combination": rules.linear_combination(normalize=False),
    "sparse_task_arithmetic": rules.sparse_task_arithmetic(),
    "mergekit_ties": rules.sparse_task_arithmetic(
        [1.0, 2.0, 0.5], "magnitude", (0.5,), consensus=True, normalize=True
    ),
    "mergekit_dare": rules.sparse_task_arithmetic(
        None, "random", (0.6,), rescale=True, consensus=True
    ),
    "mergekit_breadcrumbs": rules.sparse_task_arithmetic(None, "outliers", (0.5,), (0.2,)),
    "mergekit_della": rules.sparse_task_arithmetic(None, "ranked", (0.6,), rescale=True),
    "mergekit_slerp": rules.slerp(whole=True),
    "nuslerp": rules.nuslerp((1.0, 1.0)),
    "multislerp": rules.multislerp(),
    "sce": rules.sce(),
    "sce_top": rules.sce(0.4),
}
EVERY = STREAMING | COLLECTING


def theta(seed: int) -> dict[str, np.ndarray]:
    """Matrix, stack of matrices, vector and a leaf that is not merged."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    return {
        "block.kernel": normal(12, 8),
        "blocks": normal(3, 6, 5),
        "bias": normal(8),
        "steps": np.int32(seed),
    }


def models(name: str, count: int = 3, skip: int = 1) -> list:
    """Fine-tuned models for the named rule: as many as it merges, with a Fisher where needed."""
    most, fewest = EVERY[name].most_models or count, EVERY[name].fewest_models
    count = max(fewest, min(count, most))
    thetas = [theta(seed) for seed in range(skip, skip + count)]
    return [informed(EVERY[name], theta, jax.tree.map(np.abs, theta)) for theta in thetas]


def folded(rule: MergeRule, taus) -> np.ndarray:
    """Applies the rule to a sequence of task vectors, each one array, without jit.

    Their magnitudes serve as the Fisher of rules that need one.
    """
    state = rule.init(taus[0])
    for tau in taus:
        state = rule.update(state, informed(rule, tau, np.abs(tau)))
    return np.asarray(rule.finalize(state))


def normal_taus(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
