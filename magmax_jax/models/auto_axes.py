"""Models are written for Auto axes; this lets models sharded over Explicit axes compute, too."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

Tree = TypeVar("Tree")


def under_auto_axes(tree: Tree) -> Tree:
    """The same arrays, identically sharded, on meshes whose axes are Auto.

    Nothing is copied. Under Explicit axes, the default of `jax.make_mesh`, reshaping a sharded
    array raises; under Auto axes the compiler decides.
    """
    return jax.tree.map(_auto, tree)


@contextlib.contextmanager
def no_mesh() -> Iterator[None]:
    """Suspends the user's `jax.set_mesh`, which is meant for the user's own functions."""
    if jax.sharding.get_abstract_mesh().empty:
        yield
        return
    with jax.set_mesh(Mesh(np.empty((), dtype=object), ())):
        yield


def _auto(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or not isinstance(leaf.sharding, NamedSharding):
        return leaf
    mesh, spec = leaf.sharding.mesh, leaf.sharding.spec
    if AxisType.Explicit not in mesh.axis_types:
        return leaf
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    return jax.device_put(leaf, NamedSharding(auto, spec))
