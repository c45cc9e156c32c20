"""Device placement of results: any mesh in, the same numbers on the same mesh out.

A mesh's axes are Auto (the compiler decides how arrays are sharded), Explicit (sharding is part of
an array's type, and operations with ambiguous results raise) or Manual (within `jax.shard_map`,
where code sees one device's shard). Rules and analyses are written for Auto axes and know nothing
of devices. The two decorators here let them run on any mesh:

- Concrete arrays are viewed under Auto axes of the same mesh, without copying. Arrays on devices
  outside that mesh are moved to it.
- In a caller's own `jit`, `grad` or `vmap`, Explicit axes are Auto while the function runs.

Results get the mesh, spec and axis types of the leaves that they belong to, and are computed in
these shards: no device ever holds the whole of a sharded model.
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
from magmax_jax.merging.ownership import kept, read
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
"""Set during our computations: a user's `jax.set_mesh` applies to the user's functions only."""


def on_any_mesh(function: Function, like: int | None = 0, keeps: int | None = None) -> Function:
    """The function, computed under Auto axes; its results are placed like its arguments.

    It returns once its NumPy arguments have been read (`ownership.read`). Decorating twice has no
    effect, and equal functions give the same wrapper.

    Args:
      function: takes pytrees, returns a pytree.
      like: index of the argument whose placement results follow. A result's leaf follows the leaf
        of the same shape whose path ends the leaf's path: `tau['w']` follows theta_0's
        `['w']`. Leaves without such a match follow a leaf of another argument, also matched by
        path. None if results are scalars or have the shape of no argument.
      keeps: index of an argument whose leaves the function may return; what it returns of NumPy
        arrays there is copied (`ownership.kept`).

    Raises:
      UserError: (when called) within `jax.shard_map`, where only shards are visible and nothing
        that needs a whole tensor can be computed.
    """
    return function if hasattr(function, "on_any_mesh") else _on_any_mesh(function, like, keeps)


@functools.cache
def _on_any_mesh(function: Function, like: int | None, keeps: int | None) -> Any:
    return _wrapped(function, lambda places, *args: function(*args), like, keeps)


def _wrapped(
    function: Callable[..., Any],
    call: Callable[..., Any],
    like: int | None,
    keeps: int | None = None,
) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: PyTree, **named: PyTree) -> PyTree:
        args = signature.bind(*args, **named).args if named else args
        result = _run(call, args, like)
        return read(result if keeps is None else kept(result, args[keeps]), args)

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

    Its result has `trace`, like `jax.jit`'s: the program for arrays on one device.

    Args:
      like: as for `on_any_mesh`, counted among all positional arguments.
      static_argnums, donate_argnums: as for `jax.jit`; they also apply to keyword arguments.
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

    placed.__name__ = placed.__qualname__ = function.__name__  # also names the compiled program
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
    """`call(places, *args)`; just `call(None, *args)` if nothing is sharded."""
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
