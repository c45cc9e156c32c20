"""Sums of squared per-example gradients, of one block of a tower after another."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

PyTree = Any

_devices: ContextVar[int] = ContextVar("devices", default=0)
"""Among how many devices the examples are split while `summed_squares` traces; 0 elsewhere."""


def summed_squares(
    loss: Callable[..., jax.Array], devices: int = 1
) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """sum_i g_i^2 with g_i the gradient of `loss(params, example_i, others)` in the parameters.

    `jax.vmap(jax.grad(loss))` gives the same, but holds b gradients of all parameters. Here each
    part of the parameters that passes through `squared_here` is squared and summed as soon as the
    backward pass has its gradients: in a scan over blocks, those of one block are held at a time.
    All other parameters are squared at the end of the pass.

    Args:
      loss: float32 scalar. Its gradient must depend on the example, as of any loss of an example.
      devices: what the examples are split over in equal runs; each sums its own.

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
    """Whether this is traced by `summed_squares`."""
    return _devices.get() > 0


def squared_here(params: PyTree) -> PyTree:
    """The parameters; within `summed_squares`, their gradients end here as sums of squares.

    Parameters may pass through several times on their way: only the last one, where they are used,
    squares. Parameters that are used in two places must not pass through in each: squares of parts
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
        return gradient  # without an axis of examples: a later tap has summed it

    @squared.def_vmap
    def summed(size: int, batched: list[bool], gradients: jax.Array) -> tuple[jax.Array, bool]:
        """(b, ...) -> (...), without an axis of examples from here on."""
        own = gradients.reshape(devices, size // devices, *gradients.shape[1:])
        # Written out, as one loop over entries: XLA's loop on CPUs for a sum over the first axis,
        # fused with the square, takes up to 30 times as long.
        sums = functools.reduce(jnp.add, (jnp.square(own[:, i]) for i in range(own.shape[1])))
        return jnp.sum(sums, axis=0), False

    return (squared(gradient),)


_tap.defvjp(_tap_forward, _tap_backward)
