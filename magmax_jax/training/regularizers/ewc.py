"""EWC: keeps parameters that mattered to earlier tasks close to where those left them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from magmax_jax.registry import REGULARIZERS
from magmax_jax.training.regularizers.base import Regularizer, RegularizerSpec, Setup

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from magmax_jax.data import Batch, Preprocessing
    from magmax_jax.sharding import Layout
    from magmax_jax.training.regularizers.fisher import Kind
    from magmax_jax.training.step import Forward, Objective, Params

PUBLISHED_STRENGTH = 1e6


class Anchor(NamedTuple):
    """Memory of EWC: the next task's start, and each entry's importance, both float32."""

    theta: Params
    fisher: Params


def ewc(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    strength: float = PUBLISHED_STRENGTH,
    fisher: Kind = "empirical",
    decay: float = 0.5,
    layout: Layout | None = None,
) -> Regularizer:
    """Elastic weight consolidation, online, as in the experiments of MagMax.

        penalty  = strength / 2 * sum F (theta - theta_(t-1))^2
        F        = decay F + (1 - decay) F_t      after task t; zero before any task

    Kirkpatrick et al., 2017 (arXiv 1612.00796, eq. 3), with one running Fisher for all tasks
    (Schwarz et al., 2018, arXiv 1805.06370, in spirit; the blend and the strength are those of
    Marczak et al., 2024, arXiv 2407.06322, whose official code blends the first F_t with zeros,
    too: task 2 is penalised with half of F_1).

    theta_(t-1) stands for the start of task t. If `method.start` is a merge, it is the merge, and
    F_t is estimated at the merge, too: both belong to one expansion of the loss.

    Args:
      tower, preprocessing, fisher, layout: see `diagonal_fisher`.
      strength: lambda; published 1e6, with the Fisher called "accumulated".
      decay: weight of the old F.

    Memory: two models. Batches are read once.
    """
    import jax
    import jax.numpy as jnp

    from magmax_jax.training.regularizers.fisher import diagonal_fisher

    estimate = diagonal_fisher(tower, preprocessing, fisher, layout)

    def init(theta_0: Params) -> Anchor:
        return Anchor(theta_0, jax.tree.map(jnp.zeros_like, theta_0))

    def penalty(memory: Anchor, params: Params, forward: Forward) -> jax.Array:
        terms = jax.tree.map(
            lambda f, new, old: jnp.sum(f * jnp.square(new - old)),
            memory.fisher,
            params,
            memory.theta,
        )
        return strength / 2 * sum(jax.tree.leaves(terms), jnp.float32(0))

    @jax.jit(donate_argnums=1)
    def blend(old: Params, new: Params) -> Params:
        return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)

    def consolidate(
        memory: Anchor, params: Params, batches: Iterable[Batch[jax.Array]], objective: Objective
    ) -> Anchor:
        return Anchor(params, blend(memory.fisher, estimate(params, batches, objective)))

    return Regularizer(init, penalty, consolidate)


def _build(setup: Setup) -> Regularizer:
    return ewc(
        setup.tower,
        setup.preprocessing,
        strength=setup.strength,
        fisher=setup.method.fisher,
        layout=setup.layout,
    )


REGULARIZERS.register(
    "ewc",
    RegularizerSpec(
        title="EWC",
        build=_build,
        strength=PUBLISHED_STRENGTH,
        passes_per_task=3,  # the Fisher: a forward pass and a gradient
        images_option="fisher_images",
        options=("fisher", "fisher_images"),
        published={"fisher": "accumulated"},
    ),
)
