"""NegMerge: what several fine-tunings on the same images agree on, in order to subtract it."""

from __future__ import annotations

from magmax_jax.merging.rule import Counted, MergeRule, factory, leafwise
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


@RULES.register("negmerge")
@factory
def negmerge() -> MergeRule:
    """The mean of the task vectors where all have the same sign, to be subtracted.

        tau = 1/T sum_t tau_t    where sgn(tau_1^p) = ... = sgn(tau_T^p) != 0, else 0

    Kim et al., 2025 (arXiv 2410.05583), for unlearning: theta_0 is the model that should forget,
    the others are fine-tunings of it on only the images to forget, with different learning rates,
    epochs or augmentations, and theta = theta_0 + scale tau has a negative scale. The paper chooses
    it among 0, -0.05, ..., -1 on held-out images: of those that keep at least 95 % of theta_0's
    accuracy on the images to retain, the one that recognises fewest of those to forget. Default
    scale -0.5, the result of this choice with few fine-tunings (reproduced with CLIP by
    github.com/Abdu119/NegMerge-Reproducibility-Study: -0.5 with 3 to 5, -0.95 with 30, as fewer
    entries agree).

    State: one task vector and a counter. An entry is the sum of its changes so far, and becomes 0
    for good once a sign differs. Order affects only rounding. A single task vector is its own
    merge, which at a negative scale is task arithmetic's negation (arXiv 2212.04089).

    >>> rule = negmerge()
    >>> state = rule.init(jnp.zeros(3))
    >>> for tau in (jnp.array([3.0, -1.0, 1.0]), jnp.array([1.0, -2.0, -1.0])):
    ...     state = rule.update(state, tau)
    >>> print(rule.finalize(state))
    [ 2.  -1.5  0. ]
    """

    def update(state: Counted, tau: PyTree) -> Counted:
        def agreed(total: jax.Array, tau: jax.Array) -> jax.Array:
            # Signs, because a product of changes may underflow. NaN is not <= 0, so it stays.
            differ = (state.count > 0) & (jnp.sign(total) * jnp.sign(tau) <= 0)
            return jnp.where(differ, 0.0, total + tau)

        return Counted(leafwise(agreed, state.tau, tau), state.count + 1)

    def finalize(state: Counted) -> PyTree:
        share = 1.0 / jnp.maximum(state.count, 1)
        return leafwise(lambda total: total * share, state.tau)

    return MergeRule(
        Counted.zeros,
        update,
        finalize,
        streaming=True,
        default_scale=-0.5,
        scope="entry",
        reads_names=False,
    )
