"""How fast this machine copies memory, in several ways: nothing that moves bytes is faster."""

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Of `repeats` calls after a first one, which compiles and warms."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return taken


def copies(tree: Any, repeats: int) -> dict[str, list[float]]:
    """Seconds of every way of copying a pytree; each moves its bytes twice, in and out.

    All write to memory that has been written before, but for jax's own copy, whose new memory is
    part of what it costs.
    """
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
        ways["jitted jnp.copy"] = functools.partial(
            jax.jit(lambda tree: jax.tree.map(jnp.copy, tree)), tree
        )
        ways["jitted negation in place"] = in_place(
            jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0),
            jax.tree.map(jnp.copy, tree),
        )
        return {name: seconds(way, repeats) for name, way in ways.items()}


def in_place(step: Callable[[Any], Any], state: Any) -> Callable[[], Any]:
    """Calls `step` on its own last result, whose buffers it takes over."""

    def call() -> Any:
        nonlocal state
        state = step(state)
        return state

    return call
