"""A contender that merges T image towers in memory with one rule, from its first state to theta.

The parameters are those of a run: float32, the blocks' stacked. Models are made on the device while
no clock runs: for a streaming rule two, which take turns as theta_1 ... theta_T, for a collecting
rule each when it is its turn, of which the task vector stays and nothing else.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.device import peak_bytes
from benchmarks.shapes import SIZES
from benchmarks.turns import Facts, Prepared, serve
from benchmarks.workloads import image_tower
from magmax_jax.merging import MergeRule, State, fold, merged, rules
from magmax_jax.merging.task_vectors import tree_bytes

POOL = 2
"""Models that a streaming rule is given in turn."""
CHANGE = 1e-3
"""The largest change of an entry by a task."""
MATRICES = ("iso_c", "opcm", "tsv_m")
"""Rules of matrices, to which every layer's is one by itself."""


def prepare(settings: Facts) -> Prepared:
    """Of `settings["size"]`, `["rule"]` and `["tasks"]`; each call is one merge.

    Before any it tells `sizes`; nothing but theta_0 is in memory then. In the end it tells `folds`,
    the seconds of init and all folds of every call, `ends`, those of the rest, `state`, the bytes
    that the state took, and `peak`, those of the device's memory, on CPUs of the process's.
    """
    name, tasks = settings["rule"], settings["tasks"]
    rule = _named(name, tasks)
    _, theta_0 = image_tower(SIZES[settings["size"]].model, "float32", seed=settings["seed"])
    theta_0 = jax.block_until_ready(jax.tree.map(jnp.asarray, theta_0))
    make = jax.jit(partial(_model, name))
    folds, ends, states = [], [], []

    def call() -> None:
        models = (make(theta_0, t) for t in range(tasks))
        of = _streamed if rule.streaming else _collected
        seconds, state = of(rule, theta_0, models, tasks)
        start = time.perf_counter()
        jax.block_until_ready(merged(rule, state, theta_0, rule.default_scale))
        ends.append(time.perf_counter() - start)
        folds.append(seconds)
        states.append(tree_bytes(state))

    def last() -> Facts:
        return {"folds": folds, "ends": ends, "state": max(states, default=0), "peak": peak_bytes()}

    return Prepared(sizes(rule, theta_0, _model(name, theta_0, None), tasks), call, last)


def sizes(rule: MergeRule, theta_0: Any, model: Any, tasks: int) -> dict[str, int]:
    """Bytes by shapes alone.

    Returns:
      `parameters`: theta_0's.
      `moved`: to or from memory, at least. `init` writes the state; the fold of a streaming rule
        reads it, theta_t and theta_0 and writes it, that of a collecting rule reads theta_t and
        theta_0 and writes the task vector; the end reads the state and theta_0 and writes theta.
      `held`: in memory at once, at least: theta_0, the state, and the models that are there while
        it grows or, if more, the merged task vector and theta.
    """
    empty = state = jax.eval_shape(rule.init, theta_0)
    for _ in range(1 if rule.streaming else tasks):
        state = jax.eval_shape(rule.update, state, model)
    p, m, s = map(tree_bytes, (theta_0, model, state))
    through = tasks * 2 * s if rule.streaming else s
    return {
        "parameters": p,
        "moved": tree_bytes(empty) + tasks * (m + p) + through + s + 2 * p,
        "held": p + s + max(POOL * m if rule.streaming else m, 2 * p),
    }


def _streamed(
    rule: MergeRule, theta_0: Any, models: Iterator[Any], tasks: int
) -> tuple[float, State]:
    """Seconds, without a wait between two folds, and the state."""
    pool = jax.block_until_ready([model for _, model in zip(range(POOL), models, strict=False)])
    start = time.perf_counter()
    state = rule.init(theta_0)
    for t in range(tasks):
        state = fold(rule, state, pool[t % len(pool)], theta_0)
    jax.block_until_ready(state)
    return time.perf_counter() - start, state


def _collected(
    rule: MergeRule, theta_0: Any, models: Iterator[Any], tasks: int
) -> tuple[float, State]:
    seconds, state = 0.0, rule.init(theta_0)
    for _ in range(tasks):
        model = jax.block_until_ready(next(models))
        start = time.perf_counter()
        state = jax.block_until_ready(fold(rule, state, model, theta_0))
        seconds += time.perf_counter() - start
    return seconds, state


def _named(name: str, tasks: int) -> MergeRule:
    options: dict[str, Any] = {"stacked": True} if name in MATRICES else {}
    if name == "weighted_average":
        options["weights"] = (1.0,) * tasks
    return rules.named(name, **options)


def _model(name: str, theta_0: Any, seed: jax.typing.ArrayLike | None) -> Any:
    """theta_0 and noise, and what the rule of that name takes beside it; of no seed, its shapes."""

    def change(key: jax.Array, leaf: jax.Array) -> jax.Array:
        return leaf + CHANGE * jax.random.uniform(key, leaf.shape, leaf.dtype, -1.0, 1.0)

    theta = theta_0
    if seed is not None:
        # The generator of hardware: JAX's own would take longer than most rules.
        leaves, structure = jax.tree.flatten(theta_0)
        keys = jax.random.split(jax.random.key(seed, impl="rbg"), len(leaves))
        theta = jax.tree.unflatten(structure, map(change, keys, leaves))
    if name == "fisher":
        return rules.Informed(theta, jax.tree.map(jnp.abs, theta))
    return theta


if __name__ == "__main__":
    serve(prepare)
