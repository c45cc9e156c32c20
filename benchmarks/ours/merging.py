"""Contenders that merge image towers in memory: folds, the exact threshold, and whole merges.

Parameters are as in a run: float32, with stacked blocks.
"""

import itertools
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.limits import copies, in_place, seconds
from benchmarks.machine import peak_bytes
from benchmarks.serving import Facts, Prepared
from benchmarks.workloads import SIZES, image_tower, tree_bytes
from magmax_jax.merging import MergeRule, fold, kth_magnitude, merged, rules

ELEMENTWISE = ("max_magnitude", "average")
COPY, FOLD, MERGED = 2, 4, 3
"""Passes over the parameters. A fold reads the state, theta_t and theta_0 and writes the state; a
merge reads the state and theta_0 and writes theta."""
POOL = 2
"""Number of models that a streaming rule gets in rotation."""
CHANGE = 1e-3
"""The largest change that a task makes to an entry."""


def folds(settings: Facts) -> Prepared:
    """Copies of a tower of `size`, folds and merges of it, each `repeats` times; a call adds
    `timings`: name, bytes moved and seconds of all samples, copies first."""
    theta_0, theta_1 = (image_tower(SIZES[settings["size"]], "float32", seed=t)[1] for t in (0, 1))
    nbytes, repeats = tree_bytes(theta_0), settings["repeats"]

    def call() -> Facts:
        rows = [(name, COPY, taken) for name, taken in copies(theta_0, repeats).items()]
        for name in ELEMENTWISE:
            rule = rules.named(name)
            folding = partial(fold, rule, finetuned=theta_1, pretrained=theta_0)
            step = in_place(folding, rule.init(theta_0))
            rows.append((f"fold, {name}", FOLD, seconds(step, repeats)))
            taken = seconds(partial(merged, rule, step(), theta_0, 0.5), repeats)
            rows.append((f"theta_0 + scale tau, {name}", MERGED, taken))
        return {
            "timings": [
                {"name": name, "copies": n == COPY, "moved": n * nbytes, "seconds": taken}
                for name, n, taken in rows
            ]
        }

    return Prepared({}, call)


def threshold(settings: Facts) -> Prepared:
    """The exact `k`-th smallest magnitude of the float32 numbers in `file`, a .npy."""
    numbers = jnp.asarray(np.load(settings["file"])).block_until_ready()

    def find() -> float:
        return float(kth_magnitude(numbers, settings["k"]))

    start = time.perf_counter()
    found, first = find(), time.perf_counter() - start
    device = jax.devices()[0].platform
    return Prepared({"device": device, "first": first, "found": found}, find)


def whole(settings: Facts) -> Prepared:
    """Each call merges `tasks` towers of `size` with one `rule`, from its first state to theta.

    Models are made on the device, untimed: two for a streaming rule, which alternate as
    theta_1 ... theta_T; for a collecting rule each one when needed, keeping only its task vector. A
    call records the seconds of its `folds`. Reports `sizes` before any call, when only theta_0 is
    in memory; at the end `state`, bytes of the state, and `peak`, peak memory.
    """
    tasks, name, wait = settings["tasks"], settings["rule"], jax.block_until_ready
    given = {"stacked": True, "weights": (1.0,) * tasks}
    rule = rules.named(name, **{o: given[o] for o in rules.options(name) if o in given})
    _, theta_0 = image_tower(SIZES[settings["size"]], "float32")
    theta_0 = wait(jax.tree.map(jnp.asarray, theta_0))
    make, states = jax.jit(noisy), []

    def call() -> Facts:
        models, taken = (make(theta_0, t) for t in range(tasks)), 0.0
        if rule.streaming:  # no wait between two folds
            pool = wait(list(itertools.islice(models, POOL)))
            start, state = time.perf_counter(), rule.init(theta_0)
            for theta in itertools.islice(itertools.cycle(pool), tasks):
                state = fold(rule, state, theta, theta_0)
            wait(state)
            taken = time.perf_counter() - start
        else:
            state = rule.init(theta_0)
            for theta in map(wait, models):
                start = time.perf_counter()
                state = wait(fold(rule, state, theta, theta_0))
                taken += time.perf_counter() - start
        start = time.perf_counter()
        wait(merged(rule, state, theta_0, rule.default_scale))
        states.append(tree_bytes(state))
        return {"seconds": taken + time.perf_counter() - start, "folds": taken}

    def last() -> Facts:
        return {"state": max(states, default=0), "peak": peak_bytes()}

    return Prepared(sizes(rule, theta_0, tasks), call, last)


def noisy(theta_0: Any, seed: jax.typing.ArrayLike) -> Any:
    """theta_0 plus uniform noise."""
    # The hardware generator: JAX's default would take longer than most rules.
    leaves, structure = jax.tree.flatten(theta_0)
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), len(leaves))

    def change(key: jax.Array, leaf: jax.Array) -> jax.Array:
        return leaf + CHANGE * jax.random.uniform(key, leaf.shape, leaf.dtype, -1.0, 1.0)

    return jax.tree.unflatten(structure, map(change, keys, leaves))


def sizes(rule: MergeRule, theta_0: Any, tasks: int) -> dict[str, int]:
    """Bytes, computed from shapes.

    Returns:
      `parameters`: theta_0's.
      `moved`: lower bound on memory traffic. `init` writes the state; the fold of a streaming rule
        reads it, theta_t and theta_0 and writes it, that of a collecting rule reads theta_t and
        theta_0 and writes the task vector; the end reads the state and theta_0 and writes theta.
      `held`: lower bound on memory in use at once: theta_0, the state, and the models present while
        it grows or, if more, the merged task vector and theta.
    """
    empty = state = jax.eval_shape(rule.init, theta_0)
    for _ in range(1 if rule.streaming else tasks):
        state = jax.eval_shape(rule.update, state, theta_0)
    p, s = map(tree_bytes, (theta_0, state))
    through = tasks * 2 * s if rule.streaming else s
    return {
        "parameters": p,
        "moved": tree_bytes(empty) + tasks * 2 * p + through + s + 2 * p,
        "held": p + s + max(POOL * p if rule.streaming else p, 2 * p),
    }
