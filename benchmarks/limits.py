"""The limits that everything is held against: how fast a device multiplies matrices and copies."""

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contenders import Served
from benchmarks.serving import Facts, Prepared

SAMPLE = 0.05
"""Seconds that a sample lasts at least."""
REPEATS = 3
"""Of every matrix product in one call."""


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Of one call, in `repeats` samples, once it has been called to compile and to warm.

    A sample of a short call is many of them, queued one after another and waited for once, so that
    no wait of the host's is in the device's seconds.
    """
    _lasted(call, 1)
    times = 1
    while (lasted := _lasted(call, times)) < SAMPLE:
        # The time of few calls is mostly waiting, so each step grows by ten at the most.
        times = math.ceil(times * min(10.0, 1.1 * SAMPLE / lasted))
    return [_lasted(call, times) / times for _ in range(repeats)]


def _lasted(call: Callable[[], Any], times: int) -> float:
    """Seconds of so many calls; only the last result is kept."""
    start = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


def matmul(dtype: str, platform: str, sides: Sequence[int] = ()) -> Served:
    """The fastest of several large matrix products; each call adds its `flops` a second.

    Args:
      dtype: of both factors and the product; sums are float32.
      sides: of square factors; by default such as fill the device, and on a CPU also the shapes of
        ViT-B/16's MLP, which are faster there than squares.
    """
    cpu = platform == "cpu"
    squares = sides or ((2048, 4096) if cpu else (4096, 8192, 16384))
    shapes = [(n, n, n) for n in squares]
    if cpu and not sides:
        shapes += [(3152, 768, 2304), (3152, 768, 3072), (3152, 3072, 768)]
    settings = {"dtype": dtype, "shapes": shapes}
    return Served(name="matmul", function="benchmarks.limits:products", settings=settings)


def products(settings: Facts) -> Prepared:
    product = jax.jit(jnp.matmul)

    def rate(m: int, k: int, n: int) -> float:
        keys = jax.random.split(jax.random.key(0))
        a, b = (
            jax.random.normal(key, shape, jnp.dtype(settings["dtype"]))
            for key, shape in zip(keys, ((m, k), (k, n)), strict=True)
        )
        return 2.0 * m * k * n / statistics.median(seconds(lambda: product(a, b), REPEATS))

    return Prepared({}, lambda: {"flops": max(rate(*shape) for shape in settings["shapes"])})


def copies(tree: Any, repeats: int) -> dict[str, list[float]]:
    """Seconds of every way of copying a pytree where it lies; each moves its bytes in and out.

    All write to memory that has been written before, except jax's own copy, whose new memory is
    part of its cost. On CPUs numpy's copies are tried too.
    """
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    negate = jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0)
    ways: dict[str, Callable[[], Any]] = {}
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        if jax.default_backend() == "cpu":
            source = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            target = np.zeros_like(source)
            parts = np.array_split(target, threads), np.array_split(source, threads)
            ways["numpy.copyto, one thread"] = lambda: np.copyto(target, source)
            ways[f"numpy.copyto, {threads} threads"] = lambda: list(pool.map(np.copyto, *parts))
        ways["jitted jnp.copy"] = lambda: copy(tree)
        ways["jitted negation in place"] = in_place(negate, copy(tree))
        return {name: seconds(way, repeats) for name, way in ways.items()}


def in_place(step: Callable[[Any], Any], state: Any) -> Callable[[], Any]:
    """Calls `step` on its own last result, whose buffers it takes over."""

    def call() -> Any:
        nonlocal state
        state = step(state)
        return state

    return call
