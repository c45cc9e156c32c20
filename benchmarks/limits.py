"""The limits used for comparison: how fast a device multiplies matrices and copies memory."""

import math
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
from magmax_jax.devices.machine import usable_cores

SAMPLE = 0.05
"""Minimum duration of a sample in seconds."""
REPEATS = 3
"""Samples of every matrix product in one call."""


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds per call, in `repeats` samples, after calls for compilation and warm-up.

    For a short call, a sample queues many calls and waits once, so that device time does not
    include waiting by the host.
    """
    _lasted(call, 1)
    times = 1
    while (lasted := _lasted(call, times)) < SAMPLE:
        # Few calls spend most time waiting, so each step grows at most tenfold.
        times = math.ceil(times * min(10.0, 1.1 * SAMPLE / lasted))
    return [_lasted(call, times) / times for _ in range(repeats)]


def _lasted(call: Callable[[], Any], times: int) -> float:
    """Seconds for this many calls; keeps only the last result."""
    start = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


def matmul(dtype: str, platform: str, sides: Sequence[int] = ()) -> Served:
    """The fastest of several large matrix products; each call records its `flops` per second.

    Args:
      dtype: of both factors and the product; sums are float32.
      sides: of square factors; by default sizes that fill the device, and on a CPU also the shapes
        of ViT-B/16's MLP, which are faster there than squares.
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
    """Seconds of every way to copy a pytree on its device; each reads and writes all its bytes.

    All write to memory that has been written before, except jax's own copy, which also pays for new
    memory. On CPUs, numpy's copies are also tried.
    """
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    negate = jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0)
    ways: dict[str, Callable[[], Any]] = {}
    threads = usable_cores()
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
    """Calls `step` on its own last result, whose buffers it reuses."""

    def call() -> Any:
        nonlocal state
        state = step(state)
        return state

    return call
