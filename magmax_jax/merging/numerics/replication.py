"""Functions that see sharded arrays whole, so many devices compute what a single one would."""

import functools
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.task_vectors import PyTree


def on_whole_arrays(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The function, computed by every device on its whole arguments.

    The compiler partitions a matrix product to suit the arrays around it, which changes the order
    of additions. Within this function it partitions nothing; within `vmap` it is free to. A result
    of the first argument's shape is sharded like that argument; any other is replicated.

    Args:
      function: takes arrays, returns one array.
    """
    whole = custom_partitioning(function)

    def replicated(mesh: Mesh, shapes: PyTree) -> PyTree:
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), shapes)

    def partition(mesh: Mesh, arguments: PyTree, result: PyTree) -> tuple[Any, ...]:
        return mesh, function, replicated(mesh, result), replicated(mesh, arguments)

    def rule(mesh: Mesh, arguments: Sequence[jax.Array], results: Sequence[jax.Array]) -> str:
        """No two arrays share an axis: `a b, c d -> e f`."""
        letters = iter(string.ascii_lowercase)
        one = [" ".join(next(letters) for _ in x.shape) for x in (*arguments, *results)]
        return f"{', '.join(one[: len(arguments)])} -> {', '.join(one[len(arguments) :])}"

    whole.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, arguments, result: replicated(mesh, result),
        sharding_rule=rule,
    )
    mapped = _mapped_and_differentiated(whole, function)
    return jit_on_any_mesh(functools.wraps(function)(lambda *arrays: mapped(*arrays)))


def _mapped_and_differentiated(
    whole: Callable[..., jax.Array], function: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """`whole`, plus `function` for the `vmap` and tangents that `custom_partitioning` lacks."""
    mapped = jax.custom_batching.custom_vmap(lambda *arrays: whole(*arrays))

    @mapped.def_vmap
    def batched(
        size: int, is_batched: Sequence[bool], *arrays: jax.Array
    ) -> tuple[jax.Array, bool]:
        return jax.vmap(function, [0 if each else None for each in is_batched])(*arrays), True

    differentiated = jax.custom_jvp(lambda *arrays: mapped(*arrays))

    @differentiated.defjvp
    def tangent(
        arrays: Sequence[jax.Array], tangents: Sequence[jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        return differentiated(*arrays), jax.jvp(function, arrays, tangents)[1]

    return differentiated
