"""Models are written for Auto axes; this lets models sharded over Explicit axes compute, too."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")
Function = TypeVar("Function", bound=Callable[..., Any])


def under_auto_axes(tree: Tree) -> Tree:
    """The same arrays, identically sharded, on meshes whose axes are Auto.

    Nothing is copied. Under Explicit axes, the default of `jax.make_mesh`, reshaping a sharded
    array raises; under Auto axes the compiler decides.
    """
    return jax.tree.map(_auto, tree)


def on_any_axes(batch: int) -> Callable[[Function], Function]:
    """Lets a function of a batch also compute under Explicit axes, traced or not; a decorator.

    The mesh's axes are Auto while the function runs. The first axis of the result is the batch's,
    and is sharded as the batch is, on the same mesh. Without Explicit axes nothing changes.

    Args:
      batch: position of the batch among the arguments, which are pytrees.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            args = signature.bind(*args, **named).args
            leaves, treedef = jax.tree.flatten(args)
            arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
            meshes = (jax.typeof(leaf).sharding.mesh for leaf in arrays.values())
            mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
            if mesh is None:
                return function(*args)
            given = args[batch]
            spec = jax.typeof(given).sharding.spec if isinstance(given, jax.Array) else ()
            rows = NamedSharding(mesh, PartitionSpec(*spec[:1]))

            def under_auto(arrays: dict[int, jax.Array]) -> Any:
                found = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
                return function(*jax.tree.unflatten(treedef, found))

            return jax.sharding.auto_axes(under_auto, out_sharding=rows)(arrays)

        return call  # type: ignore[return-value]

    return decorate


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
