"""Where arrays are: their devices, shards and kind of mesh."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

PyTree = Any
Path = tuple[Any, ...]
Devices = tuple[jax.Device, ...]
Place = Sharding | Literal["uncommitted"]
"""An uncommitted array is on the default device, and moves to those it is computed with."""
Leaf = tuple[Path, tuple[int, ...], Place]
"""A leaf's path, shape and place."""


@dataclass(frozen=True)
class Places:
    """Where results go: each to the place of the argument leaf that it belongs to.

    Attributes:
      like: the leaves of the argument whose placement results follow.
      leaves: the committed leaves of all arguments.
      mesh: the mesh of the computation, with Auto axes; None in a trace.
    """

    like: tuple[Leaf, ...]
    leaves: tuple[Leaf, ...]
    mesh: Mesh | None = None

    @functools.cached_property
    def _like(self) -> dict[tuple[Path, tuple[int, ...]], Place]:
        return {(path, shape): place for path, shape, place in self.like}

    @functools.cached_property
    def _by_end(self) -> dict[tuple[Path, tuple[int, ...]], Place]:
        found: dict[tuple[Path, tuple[int, ...]], Place] = {}
        for path, shape, place in self.leaves:
            for end in _ends(path):
                found.setdefault((end, shape), place)
        return found

    def of(self, path: Path, leaf: Any) -> Place | None:
        """Where a result's leaf goes; None if it belongs to no argument's leaf."""
        shape = jnp.shape(leaf)
        for end in _ends(path):
            if (place := self._like.get((end, shape))) is not None:
                return place
        return self._by_end.get((path, shape))

    def constrain(self, result: PyTree) -> PyTree:
        """Within `jit`: the result, computed in the shards in which it is returned."""

        def split(path: Path, leaf: Any) -> Any:
            place = self.of(path, leaf)
            if isinstance(place, NamedSharding) and _auto(place).mesh == self.mesh:
                return jax.lax.with_sharding_constraint(leaf, _auto(place))
            return leaf

        return jax.tree_util.tree_map_with_path(split, result)


def arrays_of(args: tuple[PyTree, ...]) -> list[jax.Array]:
    """All JAX arrays among the leaves, including tracers."""
    return [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, jax.Array)]


def leaves_of(args: tuple[PyTree, ...], like: int | None) -> tuple[list, list]:
    """Arrays, with their paths, of the argument `like`, and of all arguments.

    Both are empty if `like` is None: results stay as they were computed.
    """
    if like is None:
        return [], []
    found = [
        [
            pair
            for pair in jax.tree_util.tree_leaves_with_path(arg)
            if isinstance(pair[1], jax.Array)
        ]
        for arg in args
    ]
    return found[like], [pair for pairs in found for pair in pairs]


def _ends(path: Path) -> Iterator[Path]:
    """The path and every suffix of it, down to the empty one."""
    return (path[i:] for i in range(len(path) + 1))


def is_fixed(leaf: jax.Array) -> bool:
    """Whether the user chose its placement."""
    return leaf.committed or isinstance(leaf.sharding, NamedSharding)


def devices_of(sharding: Sharding) -> Devices:
    """The devices, in the order of their shards."""
    if isinstance(sharding, NamedSharding):
        return tuple(sharding.mesh.devices.flat)
    return tuple(sorted(sharding.device_set, key=lambda device: device.id))


def shared_mesh(arrays: Sequence[jax.Array]) -> Mesh:
    """The mesh that holds the most bytes, with Auto axes; if none, one of all devices in use.

    A program has one mesh.
    """
    held: Counter[Any] = Counter()  # by mesh
    for array in arrays:
        if isinstance(array.sharding, NamedSharding):
            held[_auto(array.sharding).mesh] += array.nbytes + 1
    meshes = [mesh for mesh in held if mesh.size > 1] or list(held)
    if meshes:
        fullest: Mesh = max(meshes, key=held.__getitem__)
        return fullest
    devices = dict.fromkeys(device for array in arrays for device in devices_of(array.sharding))
    return Mesh(np.array(list(devices)), ("devices",), axis_types=(AxisType.Auto,))


def seen(leaf: Any, mesh: Mesh) -> Any:
    """The array on the mesh of the computation, moved there if necessary."""
    if not isinstance(leaf, jax.Array) or not is_fixed(leaf):
        return leaf
    sharding = leaf.sharding
    if isinstance(sharding, NamedSharding) and _auto(sharding).mesh == mesh:
        return put(leaf, _auto(sharding))
    if mesh.size == 1 and devices_of(sharding) == tuple(mesh.devices.flat):
        return leaf
    return jax.device_put(leaf, _spread(leaf.shape, mesh))


def _spread(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Shards the largest axis that the number of devices divides; if none, replicates."""
    sides = [i for i, side in enumerate(shape) if side and side % mesh.size == 0]
    if not sides:
        return NamedSharding(mesh, PartitionSpec())
    split = max(sides, key=lambda i: shape[i])
    return NamedSharding(mesh, PartitionSpec(*(None,) * split, mesh.axis_names))


@functools.cache
def _auto(sharding: NamedSharding) -> NamedSharding:
    mesh = sharding.mesh
    if set(mesh.axis_types) <= {AxisType.Auto}:
        return sharding
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=kinds)
    return NamedSharding(auto, sharding.spec, memory_kind=sharding.memory_kind)


def under_one_of(arrays: Sequence[jax.Array], leaf: jax.Array) -> jax.Array:
    """The array, with the axis types of the mesh that it shares with one of `arrays`."""
    ours = leaf.sharding
    shardings = [array.sharding for array in arrays]
    if not isinstance(ours, NamedSharding) or ours in shardings:
        return leaf
    for theirs in shardings:
        if isinstance(theirs, NamedSharding) and _auto(theirs).mesh == ours.mesh:
            return put(leaf, NamedSharding(theirs.mesh, ours.spec))
    return leaf


def put(leaf: jax.Array, sharding: Sharding) -> jax.Array:
    """`jax.device_put`; if only a mesh's axis types change, each process keeps its shards."""
    if leaf.sharding == sharding:
        return leaf
    if leaf.is_fully_addressable or not leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return jax.device_put(leaf, sharding)
    pieces = [piece.data for piece in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, pieces)
