"""Task arithmetic of thinned task vectors: mergekit's family from TIES to DELLA in one rule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

from magmax_jax.errors import UserError
from magmax_jax.merging.leaf_names import checked_seed
from magmax_jax.merging.numerics.over_tasks import EachTask, sum_over, together
from magmax_jax.merging.numerics.selection import kth_magnitude
from magmax_jax.merging.rule import (
    Collected,
    MergeRule,
    Thins,
    Trims,
    collected,
    collecting,
    factory,
    leaf_key,
    leafwise_collected,
)
from magmax_jax.merging.rules.thinning import (
    drawn,
    drawn_by_rank,
    largest,
    largest_rank,
    middle,
    only,
    smallest,
)
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

Thin = Literal["nothing", "magnitude", "outliers", "random", "ranked"]
THINNED: tuple[Thin, ...] = get_args(Thin)
LEAST_TOTAL = 1e-8
"""Sums of weights below this in magnitude divide nothing, as in mergekit."""


@RULES.register("sparse_task_arithmetic")
@factory
def sparse_task_arithmetic(
    weights: Sequence[float] | None = None,
    thin: Thin = "nothing",
    densities: Sequence[float] = (1.0,),
    gammas: Sequence[float] = (0.01,),
    epsilons: Sequence[float] = (0.15,),
    rescale: bool = False,
    consensus: bool = False,
    normalize: bool = False,
    factor: float = 1.0,
    seed: int = 0,
) -> MergeRule:
    """A weighted sum of thinned task vectors, optionally only of those that agree on the sign.

        t_i = thinned tau_i,    v_i = w_i t_i
        c_i = 1; with consensus, 1 where v_i has the sign of sum_i v_i (plus where that is zero)
        tau = factor sum_i c_i v_i;  normalized, divided by sum_i c_i w_i (where that is not zero)

    The formula behind eight methods of mergekit 0.1.5 ("generalized task arithmetic"), with its
    conventions: task_arithmetic (Ilharco et al., arXiv 2212.04089), ties (Yadav et al.,
    2306.01708), dare_linear and dare_ties (Yu et al., 2311.03099), breadcrumbs and breadcrumbs_ties
    (Davari & Belilovsky, 2312.06795), della and della_linear (Deep et al., 2406.11617). `ties`,
    `dare`, `breadcrumbs` and `della` are the authors' versions. Default scale 1. Collects all task
    vectors. Order pairs task vectors with their weights, and otherwise affects only rounding and
    draws.

    Thinning keeps, of a tensor's n entries:

        magnitude   the max(1, int(density n)) largest; none if the density is 0
        outliers    int(density n), after dropping the int(gamma n) largest; where both do not fit,
                    fewer of the largest are dropped
        random      each with probability density
        ranked      each with probability density - epsilon + 2 epsilon (rank - 1) / (m - 1), where
                    rank orders magnitudes among the m entries along axis 1 (of a vector, all);
                    a lone entry with probability density, where mergekit raises an error

    Of equal magnitudes the first ones are kept, so that the number is exact. A density of 1 or more
    keeps everything.

    Args:
      weights: w, one per task, of any sign; 1 by default.
      thin: what is kept; see above.
      densities, gammas, epsilons: one per task, or one for all.
      rescale: multiply what is kept by the ratio of the L1 norms before and after thinning, one
        number per tensor, unless either norm is below 1e-7.
      consensus: elect a sign for every entry, and leave out those of another sign.
      normalize: divide by the weights of what was added.
      factor: lambda of mergekit's recipes; it multiplies the scale.
      seed: random seed, any integer, for "random" and "ranked".

    Raises:
      UserError: an argument is invalid; or, when merging, there are more task vectors than weights.
    """
    seed = checked_seed(seed)
    several = {"weights": weights, "densities": densities, "gammas": gammas, "epsilons": epsilons}
    counts = {name: len(v) for name, v in several.items() if v and (name == "weights" or v[1:])}
    _check(weights, thin, densities, gammas, epsilons, counts)
    thinned = thin != "nothing" and any(density < 1 for density in densities)
    draws = thinned and thin in ("random", "ranked")
    most = min(counts.values(), default=None)

    def of(values: Sequence[float], task: int) -> float:
        return values[task - 1] if len(values) > 1 else values[0]

    def thin_one(name: str, task: int, tau: jax.Array) -> jax.Array:
        density = of(densities, task)
        if density >= 1:
            return tau
        if thin == "magnitude":
            rank = largest_rank(tau.size, density)
            kept = largest(tau, kth_magnitude(tau, rank), tau.size + 1 - rank)
        elif thin == "outliers":
            first, last = middle(tau.size, density, of(gammas, task))
            bounds = kth_magnitude(tau, first), kth_magnitude(tau, last)
            kept = smallest(tau, bounds[1], last) & ~smallest(tau, bounds[0], first)
        elif density <= 0:
            return jnp.zeros_like(tau)
        elif thin == "random":
            kept = drawn(leaf_key(seed, task, name), tau, density)
        else:
            kept = drawn_by_rank(leaf_key(seed, task, name), tau, density, of(epsilons, task))
        return only(tau, kept, rescale)

    def merge(name: str, taus: EachTask) -> jax.Array:
        if thinned:  # one after another: each has options of its own
            each = [thin_one(name, task, taus[task - 1]) for task in range(1, len(taus) + 1)]
            taus = together(each)
        w = jnp.array(weights[: len(taus)] if weights else [1.0] * len(taus), jnp.float32)
        return _combine(taus, w, jnp.float32(factor), consensus, normalize)

    def finalize(taus: Collected) -> PyTree:
        count = collected(taus)
        if most is not None and count > most:
            raise UserError(
                f"sparse_task_arithmetic: {most} {_first(counts)} for {count} task vectors: give "
                "one for each"
            )
        return leafwise_collected(merge, taus)

    def whole() -> MergeRule:
        return sparse_task_arithmetic(
            weights, consensus=consensus, normalize=normalize, factor=factor
        )

    def rank(size: int, task: int) -> int:
        return largest_rank(size, of(densities, task))

    return collecting(
        finalize,
        default_scale=1.0,
        stacks=not thinned,
        scope="tensor" if thinned else "entry",
        reads_names=draws,
        draws=draws,
        trims=Trims(rank, lambda count, total: whole(), exact=True)
        if thinned and thin == "magnitude" and not rescale
        else None,
        thins=Thins(lambda task: (0.0, of(densities, task)), seed, rescale, whole())
        if thinned and thin == "random"
        else None,
        most_models=most,
        per_model=_first(counts) if counts else None,
    )


def _first(counts: dict[str, int]) -> str:
    return min(counts, key=lambda name: counts[name])


def _check(
    weights: Sequence[float] | None,
    thin: str,
    densities: Sequence[float],
    gammas: Sequence[float],
    epsilons: Sequence[float],
    counts: dict[str, int],
) -> None:
    rule = "sparse_task_arithmetic"
    if thin not in THINNED:
        raise UserError(f"{rule}: thin is {thin!r}: choose from {', '.join(THINNED)}")
    if weights is not None and not weights:
        raise UserError(f"{rule}: there are no weights: give one for each model")
    for name, values in (("densities", densities), ("gammas", gammas), ("epsilons", epsilons)):
        if not values or not all(0 <= value < float("inf") for value in values):
            raise UserError(f"{rule}: {name} are {values}: give numbers from 0 up")
    if not all(abs(weight) < float("inf") for weight in weights or ()):
        raise UserError(f"{rule}: weights are {weights}: give finite numbers")
    if len(set(counts.values())) > 1:
        found = " and ".join(f"{number} {name}" for name, number in counts.items())
        raise UserError(f"{rule}: {found}: give as many of each, one for each model")
    pairs = zip(
        densities if len(densities) > 1 else list(densities) * len(epsilons),
        epsilons if len(epsilons) > 1 else list(epsilons) * len(densities),
        strict=True,
    )
    for density, epsilon in pairs if thin == "ranked" else ():
        inside = density - epsilon > 0 and density + epsilon < 1
        if 0 < density < 1 and not inside:
            raise UserError(
                f"{rule}: density {density} and epsilon {epsilon} give probabilities from "
                f"{density - epsilon:g} to {density + epsilon:g}: they must be in (0, 1)"
            )


@partial(jit, static_argnames=("consensus", "normalize"))
def _combine(
    taus: EachTask,
    weights: jax.Array,
    factor: jax.Array,
    consensus: bool,
    normalize: bool,
) -> jax.Array:
    # Products are rounded before they are added: a fused multiply-add would leave a remainder, and
    # with it a sign, where the votes cancel exactly.
    rounded = jax.lax.optimization_barrier if consensus else lambda votes: votes
    if isinstance(taus, jax.Array):

        def vote(tau: jax.Array, weight: jax.Array) -> jax.Array:
            return rounded(tau * weight)

    else:
        taus = rounded([tau * weight for tau, weight in zip(taus, weights, strict=True)])

        def vote(tau: jax.Array, weight: jax.Array) -> jax.Array:
            return tau

    total = sum_over(vote, taus, weights)
    if consensus:
        plus = total >= 0

        def agreeing(tau: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
            own = vote(tau, weight)
            agrees = jnp.where(plus, own > 0, own < 0)
            return jnp.where(agrees, own, 0.0), jnp.where(agrees, weight, 0.0)

        total, divisor = sum_over(agreeing, taus, weights)
        divisor = jnp.where(divisor == 0, 1.0, divisor)
    else:
        divisor = jnp.sum(weights)
        divisor = jnp.where(jnp.abs(divisor) < LEAST_TOTAL, 1.0, divisor)
    merged = total / divisor if normalize else total
    return jnp.asarray(merged) * factor
