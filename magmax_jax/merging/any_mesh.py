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

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from magmax_jax.merging.ownership import kept, read
from magmax_jax.packages.lazy_jax import jit

if TYPE_CHECKING:
    from magmax_jax.merging.placement import Places, PyTree

Function = TypeVar("Function", bound=Callable[..., Any])


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
        from magmax_jax.merging.on_mesh import computed  # imports JAX

        args = signature.bind(*args, **named).args if named else args
        result = computed(call, args, like)
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

    def placed(places: Places | None, *args: PyTree) -> PyTree:
        result = function(*args)
        return result if places is None else places.constrain(result)

    placed.__name__ = placed.__qualname__ = function.__name__  # also names the compiled program
    compiled = jit(
        placed,
        static_argnums=(0, *_one_later(static_argnums)),
        donate_argnums=_one_later(donate_argnums),
    )

    run = _wrapped(function, compiled, like)
    run.trace = lambda *args: compiled.trace(None, *args)  # type: ignore[attr-defined]
    return run


def _one_later(argnums: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + 1 for i in ((argnums,) if isinstance(argnums, int) else argnums))
