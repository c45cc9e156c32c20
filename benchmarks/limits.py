"""The limits that everything is held against: how fast a device multiplies matrices and copies.

Nothing that multiplies or moves as much is faster.
"""

import functools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SAMPLE = 0.05
"""Seconds that one sample lasts at least."""


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Of one call, in `repeats` samples: see `in_turn`."""
    return in_turn({"": call}, repeats, SAMPLE)[""]


def in_turn(
    calls: Mapping[str, Callable[[], Any]], repeats: int, at_least: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of every call, in turns, once each has been called to compile and to warm.

    A sample of a short call is several of them, queued one after another and waited for once, so
    that no wait of the host's is in the device's seconds.

    Args:
      at_least: seconds of a sample; 0 waits for every call.
    """
    times = {name: _enough(call, at_least) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(_lasted(call, times[name]) / times[name])
    return taken


def _enough(call: Callable[[], Any], at_least: float) -> int:
    """How many calls, queued, last so long; the first of all is made here."""
    _lasted(call, 1)
    times = 1
    while at_least and (lasted := _lasted(call, times)) < at_least:
        # The time of few calls is mostly waiting, so each step grows by ten at the most.
        times = math.ceil(times * min(10.0, 1.1 * at_least / lasted))
    return times


def _lasted(call: Callable[[], Any], times: int) -> float:
    """Seconds of so many calls, of whose results only the last is kept."""
    start = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


Shape = tuple[int, int, int]
"""Of a matrix product: (m, k) times (k, n)."""


def matmul_shapes(cpu: bool, sides: Sequence[int] = ()) -> list[Shape]:
    """Products that come near to what a device can.

    Args:
      sides: of square factors; by default such as fill the device, and on a CPU also the shapes of
        ViT-B/16's MLP, which there are faster than squares.
    """
    if sides:
        return [(n, n, n) for n in sides]
    squares = [(n, n, n) for n in ((2048, 4096) if cpu else (4096, 8192, 16384))]
    return squares + [(3152, 768, 2304), (3152, 768, 3072), (3152, 3072, 768)] * cpu


def matmul_peak(dtype: str, repeats: int, sides: tuple[int, ...] = ()) -> float:
    """Floating-point operations a second of large matrix products, the best of several shapes.

    Args:
      dtype: of both factors and the product; sums are float32.
      sides: see `matmul_shapes`.
    """
    product = jax.jit(jnp.matmul)

    def rate(m: int, k: int, n: int) -> float:
        keys = jax.random.split(jax.random.key(0))
        a, b = (
            jax.random.normal(key, shape, jnp.dtype(dtype))
            for key, shape in zip(keys, ((m, k), (k, n)), strict=True)
        )
        return 2.0 * m * k * n / statistics.median(seconds(lambda: product(a, b), repeats))

    return max(rate(*shape) for shape in matmul_shapes(jax.default_backend() == "cpu", sides))


def copies(tree: Any, repeats: int) -> dict[str, list[float]]:
    """Seconds of every way of copying a pytree where it lies; each moves its bytes in and out.

    All write to memory that has been written before, but for jax's own copy, whose new memory is
    part of what it costs. On CPUs numpy's copies are tried too.
    """
    ways = {
        "jitted jnp.copy": functools.partial(
            jax.jit(lambda tree: jax.tree.map(jnp.copy, tree)), tree
        ),
        "jitted negation in place": in_place(
            jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0),
            jax.tree.map(jnp.copy, tree),
        ),
    }
    taken = _host_copies(tree, repeats) if jax.default_backend() == "cpu" else {}
    return taken | {name: seconds(way, repeats) for name, way in ways.items()}


def _host_copies(tree: Any, repeats: int) -> dict[str, list[float]]:
    source = np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])
    target = np.zeros_like(source)
    threads = len(os.sched_getaffinity(0))
    ways = {"numpy.copyto, one thread": functools.partial(np.copyto, target, source)}
    with ThreadPoolExecutor(threads) as pool:
        parts = np.array_split(target, threads), np.array_split(source, threads)
        pieces = list(zip(*parts, strict=True))

        def in_threads() -> None:
            list(pool.map(lambda pair: np.copyto(*pair), pieces))

        if threads > 1:
            ways[f"numpy.copyto, {threads} threads"] = in_threads
        return {name: seconds(way, repeats) for name, way in ways.items()}


def in_place(step: Callable[[Any], Any], state: Any) -> Callable[[], Any]:
    """Calls `step` on its own last result, whose buffers it takes over."""

    def call() -> Any:
        nonlocal state
        state = step(state)
        return state

    return call
