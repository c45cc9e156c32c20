"""The cost of a computation: seconds and bytes."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError


class Overhead(NamedTuple):
    """The cost of one call.

    Attributes:
      seconds: the median of several calls, compiled and warm, until results are ready.
      nbytes: bytes per device of temporary arrays at their peak and of results, as planned by the
        compiled program; excludes arguments and results that reuse a donated argument's buffer.
        None if the compiler does not report it.
    """

    seconds: float
    nbytes: int | None


def measure(function: Callable[..., Any], *args: Any, repeats: int = 5) -> Overhead:
    """Times a function of arrays, and queries its compiled program's memory use.

    Args:
      function: takes pytrees of arrays; jitted here if it is not already. Arguments that it donates
        are copied before every call, untimed, and stay usable.
      *args: its arguments. Bind static ones with a lambda before `jax.jit`.
      repeats: number of timed calls, after an untimed warm-up.

    Raises:
      UserError: `repeats` is less than 1, or the function has static arguments.

    >>> measure(lambda x: x + 1, jnp.zeros(1000)).nbytes
    4000
    """
    if repeats < 1:
        raise UserError(f"repeats is {repeats}: time at least one call")
    lowered = (function if hasattr(function, "lower") else jax.jit(function)).lower(*args)
    infos, _ = lowered.args_info
    if len(infos) != len(args):
        raise UserError(
            "a function with static arguments cannot be measured: bind them before it is jitted"
        )
    compiled = lowered.compile()
    args = jax.tree.map(jnp.asarray, args)  # host arrays would be transferred in every call

    def call() -> float:
        given = jax.block_until_ready(jax.tree.map(_own, infos, args))
        start = time.perf_counter()
        jax.block_until_ready(compiled(*given))
        return time.perf_counter() - start

    call()
    seconds = median(call() for _ in range(repeats))
    plan = compiled.memory_analysis()
    if plan is None:
        return Overhead(seconds, None)
    results = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return Overhead(seconds, plan.temp_size_in_bytes + results)


def _own(info: Any, argument: jax.Array) -> jax.Array:
    return argument.copy() if info.donated else argument
