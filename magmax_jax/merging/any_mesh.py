"""Where results are computed and put: any mesh in, the same numbers and the same mesh out.

A mesh's axes are Auto (the compiler decides how arrays are split), Explicit (an array's type says
how it is split, and operations whose result would be ambiguous raise) or Manual (within
`jax.shard_map`, where code sees one device's part). Rules and analyses are written for Auto axes
and know nothing of devices. The two decorators here let them run on whatever the user has:

- Concrete arrays are seen under Auto axes of the same mesh, which copies nothing. Arrays on other
  devices than the rest are moved to them.
- In a caller's own `jit`, `grad` or `vmap`, Explicit axes are Auto while the function runs.

Results are placed like the leaves that they belong to, with the same mesh, spec and axis types, and
are computed in these pieces: no device ever holds a whole model that is sharded.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

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

Function = TypeVar("Function", bound=Callable[..., Any])

NO_MESH = Mesh(np.empty((), dtype=object), ())
"""In effect while we compute: a user's `jax.set_mesh` is for the user's own functions."""


def on_any_mesh(function: Function, like: int | None = 0) -> Function:
    """The function, computed under Auto axes; its results are placed like its arguments.

    Decorating twice changes nothing, and equal functions stay one.

    Args:
      function: of pytrees, giving a pytree.
      like: the argument that results are placed like. A result's leaf belongs to the leaf of the
        same shape whose path ends its own: `tau['w']` to theta_0's `['w']`. Leaves that belong to
        none of these are placed like a leaf of the other arguments, found by their paths, too. None
        where the results are numbers, or have the shape of nothing.

    Raises:
      UserError: (when called) within `jax.shard_map`, over whose parts of arrays nothing that
        looks at a whole tensor can be computed.
    """
    return function if hasattr(function, "on_any_mesh") else _on_any_mesh(function, like)


@functools.cache
def _on_any_mesh(function: Function, like: int | None) -> Any:
    return _wrapped(function, lambda places, *args: function(*args), like)


def _wrapped(
    function: Callable[..., Any], call: Callable[..., Any], like: int | None
) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: PyTree, **named: PyTree) -> PyTree:
        return _run(call, signature.bind(*args, **named).args if named else args, like)

    run.on_any_mesh = True  # type: ignore[attr-defined]
    return run


def jit_on_any_mesh(
    function: Callable[..., Any] | None = None,
    *,
    like: int | None = 0,
    static_argnums: int | tuple[int, ...] = (),
    donate_argnums: int | tuple[int, ...] = (),
) -> Any:
    """`jax.jit` with `on_any_mesh`; also a decorator with arguments.

    What it returns has `trace` as `jax.jit`'s has: the program for arrays that are on one device.

    Args:
      like: as for `on_any_mesh`, counted among all positional arguments.
      static_argnums, donate_argnums: as for `jax.jit`; also of arguments given by name.
    """
    if function is None:
        return functools.partial(
            jit_on_any_mesh,
            like=like,
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
        )

    def placed(places: "Places | None", *args: PyTree) -> PyTree:
        result = function(*args)
        return result if places is None else places.constrain(result)

    placed.__name__ = placed.__qualname__ = function.__name__  # the compiled program's name, too
    compiled = jax.jit(
        placed,
        static_argnums=(0, *_one_later(static_argnums)),
        donate_argnums=_one_later(donate_argnums),
    )

    run = _wrapped(function, compiled, like)
    run.trace = functools.partial(compiled.trace, None)  # type: ignore[attr-defined]
    return run


def _one_later(argnums: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + 1 for i in ((argnums,) if isinstance(argnums, int) else argnums))


def _run(call: Callable[..., PyTree], args: tuple[PyTree, ...], like: int | None) -> PyTree:
    """`call(places, *args)`; where nothing is sharded, `call(None, *args)` and nothing else."""
    arrays = arrays_of(args)
    context = jax.sharding.get_abstract_mesh()
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in arrays):
        fixed = [leaf.sharding for leaf in arrays if is_fixed(leaf)]
        one_device = len({devices_of(sharding) for sharding in fixed}) < 2
        if context.empty and one_device and not any(isinstance(s, NamedSharding) for s in fixed):
            return call(None, *args)
        try:
            no_mesh = jax.set_mesh(NO_MESH)
        except ValueError:  # Within a trace, of which these arrays are constants.
            pass
        else:
            with no_mesh:
                return _concrete(call, args, like)
    meshes = [context, *(jax.typeof(leaf).sharding.mesh for leaf in arrays)]
    kinds = {kind for mesh in meshes for kind in mesh.axis_types}
    if AxisType.Manual in kinds:
        raise UserError(
            "merging and its analyses need whole tensors, but within jax.shard_map each device "
            "sees its own part: call them outside of it, on the sharded arrays"
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
    """`call(*args)` in a trace with Explicit axes, which are Auto for it and Explicit again after.

    Args:
      mesh: of the trace.
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
