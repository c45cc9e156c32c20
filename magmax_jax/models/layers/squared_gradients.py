"""Sums of squared per-example gradients, computed block by block of a tower."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

PyTree = Any

_devices: ContextVar[int] = ContextVar("devices", default=0)
"""Number of devices that examples are split over while `summed_squares` traces; 0 elsewhere."""


def summed_squares(
    loss: Callable[..., jax.Array], devices: int = 1
) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """sum_i g_i^2, with g_i the gradient of `loss(params, example_i, others)` in the parameters.

    `jax.vmap(jax.grad(loss))` gives the same, but holds b gradients of all parameters. Here the
    gradients of parameters that pass through `squared_here` are squared and summed as soon as the
    backward pass has them: in a scan over blocks, those of only one block are held at a time. All
    other parameters' gradients are squared at the end of the pass.

    Args:
      loss: float32 scalar. Its gradient must depend on the example, as that of any per-example
        loss does.
      devices: number of devices that hold equal runs of the examples; each sums its own.

    Returns:
      A function (params, examples, others) -> sums, like the parameters. `examples` is a pytree of
      arrays (b, ...), b a multiple of `devices`.
    """

    def tapped(params: PyTree, example: PyTree, others: PyTree) -> jax.Array:
        token = _devices.set(devices)
        try:
            return loss(squared_here(params), example, others)
        finally:
            _devices.reset(token)

    return jax.vmap(jax.grad(tapped), in_axes=(None, 0, None), out_axes=None)


def squares_are_summed() -> bool:
    """Whether `summed_squares` is tracing."""
    return _devices.get() > 0


def squared_here(params: PyTree) -> PyTree:
    """The parameters; within `summed_squares`, their gradients end here as sums of squares.

    Parameters may pass through several times on their way: only the last pass, next to their use,
    squares. Parameters used in two places must not pass through at each: the squares of the parts
    do not add up to the square of the gradient.
    """
    devices = _devices.get()
    return jax.tree.map(functools.partial(_tap, devices), params) if devices else params


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tap(devices: int, leaf: jax.Array) -> jax.Array:
    return leaf


def _tap_forward(devices: int, leaf: jax.Array) -> tuple[jax.Array, None]:
    return leaf, None


def _tap_backward(devices: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    @custom_vmap
    def squared(gradient: jax.Array) -> jax.Array:
        return gradient  # no example axis: a later tap has summed over it

    @squared.def_vmap
    def summed(size: int, batched: list[bool], gradients: jax.Array) -> tuple[jax.Array, bool]:
        """(b, ...) -> (...), which removes the example axis."""
        own = gradients.reshape(devices, size // devices, *gradients.shape[1:])
        # Unrolled into one loop over entries: on CPUs, XLA's loop for a sum over the first axis,
        # fused with the square, takes up to 30 times as long.
        sums = functools.reduce(jnp.add, (jnp.square(own[:, i]) for i in range(own.shape[1])))
        return jnp.sum(sums, axis=0), False

    return (squared(gradient),)


_tap.defvjp(_tap_forward, _tap_backward)
