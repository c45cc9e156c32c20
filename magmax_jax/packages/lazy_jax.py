"""JAX, imported on first use: `from magmax_jax.packages.lazy_jax import jax, jit, jnp`.

Importing JAX takes half a second of a core, and what a merge rule declares (its options, scope and
scale) does not need it: `magmax merge --dry-run` plans a merge without JAX. A module that imports
these names must not use JAX while it is imported itself. So

- it has `from __future__ import annotations`, because annotations such as `jax.Array` would be
  evaluated when a function is defined;
- it decorates with `jit`, not with `jax.jit`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["jax", "jit", "jnp"]

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from jax import jit
else:

    class _Lazy(ModuleType):
        """A module that is imported when one of its attributes is read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    class jit:
        """`jax.jit`, applied when the compiled function is first used; also a decorator."""

        def __init__(self, function: Callable[..., Any], **options: Any):
            functools.update_wrapper(self, function)
            self._options = options

        @functools.cached_property
        def _compiled(self) -> Any:
            return jax.jit(self.__wrapped__, **self._options)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self._compiled(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):  # such as copy and pickle look for; `lower` is JAX's
                raise AttributeError(name)
            return getattr(self._compiled, name)

    jax, jnp = _Lazy("jax"), _Lazy("jax.numpy")
