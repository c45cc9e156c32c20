"""Computes on the mesh of given arrays, under Auto axes: the part of `any_mesh` that needs JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from magmax_jax.errors import UserError
from magmax_jax.merging.placement import (
    Path,
    Places,
    PyTree,
    arrays_of,
    devices_of,
    is_fixed,
    leaves_of,
    put,
    seen,
    shared_mesh,
    under_one_of,
)

NO_MESH = Mesh(np.empty((), dtype=object), ())
"""Set during our computations: a user's `jax.set_mesh` applies to the user's functions only."""


def computed(call: Callable[..., PyTree], args: tuple[PyTree, ...], like: int | None) -> PyTree:
    """`call(places, *args)`; just `call(None, *args)` if nothing is sharded.

    Args:
      like: as for `any_mesh.on_any_mesh`.

    Raises:
      UserError: within `jax.shard_map`, where only shards are visible.
    """
    arrays = arrays_of(args)
    context = jax.sharding.get_abstract_mesh()
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in arrays):
        fixed = [leaf.sharding for leaf in arrays if is_fixed(leaf)]
        one_device = len({devices_of(sharding) for sharding in fixed}) < 2
        if context.empty and one_device and not any(isinstance(s, NamedSharding) for s in fixed):
            return call(None, *args)
        try:
            no_mesh = jax.set_mesh(NO_MESH)
        except ValueError:  # Within a trace in which these arrays are constants.
            pass
        else:
            with no_mesh:
                return _concrete(call, args, like)
    meshes = [context, *(jax.typeof(leaf).sharding.mesh for leaf in arrays)]
    kinds = {kind for mesh in meshes for kind in mesh.axis_types}
    if AxisType.Manual in kinds:
        raise UserError(
            "merging and its analyses need whole tensors, but within jax.shard_map each device "
            "sees its own part: call them outside it, on the sharded arrays"
        )
    if AxisType.Explicit not in kinds:
        return call(None, *args)
    explicit = next(mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types)
    return _traced(functools.partial(call, None), args, like, explicit)


def _concrete(call: Callable[..., PyTree], args: tuple[PyTree, ...], like: int | None) -> PyTree:
    fixed = [leaf for leaf in arrays_of(args) if is_fixed(leaf)]
    mesh = shared_mesh(fixed)
    wanted, leaves = leaves_of(args, like)
    places = Places(
        tuple(
            (path, leaf.shape, leaf.sharding if is_fixed(leaf) else "uncommitted")
            for path, leaf in wanted
        ),
        tuple((path, leaf.shape, leaf.sharding) for path, leaf in leaves if is_fixed(leaf)),
        mesh,
    )

    def back(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        place = places.of(path, leaf)
        if place is None:
            return under_one_of(fixed, leaf)
        if isinstance(place, Sharding):
            return put(leaf, place)
        return jnp.asarray(np.asarray(leaf)) if is_fixed(leaf) else leaf

    given = (jax.tree.map(lambda leaf: seen(leaf, mesh), arg) for arg in args)
    return jax.tree_util.tree_map_with_path(back, call(places, *given))


def _traced(
    call: Callable[..., PyTree], args: tuple[PyTree, ...], like: int | None, mesh: AbstractMesh
) -> PyTree:
    """`call(*args)` in a trace with Explicit axes, which are Auto during the call.

    Args:
      mesh: the trace's mesh.
    """
    leaves, treedef = jax.tree.flatten(args)
    rebuilt = functools.partial(jax.tree.unflatten, treedef)
    at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def of_arrays(arrays: list[jax.Array]) -> PyTree:
        given = dict(zip(at, arrays, strict=True))
        return call(*rebuilt([given.get(i, leaf) for i, leaf in enumerate(leaves)]))

    arrays = [leaves[i] for i in at]
    whole = NamedSharding(mesh, PartitionSpec())
    wanted, leaves_of_all = (
        tuple((path, leaf.shape, jax.typeof(leaf).sharding) for path, leaf in found)
        for found in leaves_of(args, like)
    )
    places = Places(wanted, leaves_of_all)

    def place(path: Path, leaf: Any) -> NamedSharding:
        found = places.of(path, leaf)
        return found if isinstance(found, NamedSharding) and found.mesh == mesh else whole

    shapes = jax.eval_shape(jax.sharding.auto_axes(of_arrays, out_sharding=whole), arrays)
    placed = jax.tree_util.tree_map_with_path(place, shapes)
    return jax.sharding.auto_axes(of_arrays, out_sharding=placed)(arrays)
