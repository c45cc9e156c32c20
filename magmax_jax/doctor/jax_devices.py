"""JAX's devices, found without taking most of a GPU's memory."""

import os
from typing import Any


def start() -> list[Any]:
    """All devices of JAX in this process, `jax.Device`s.

    Raises:
      RuntimeError: a platform that JAX_PLATFORMS names does not start.
    """
    # By default JAX takes three quarters of a GPU's memory, which a run may be using.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return list(jax.devices())


def devices() -> list[Any]:
    """The same; none if JAX does not start, which the check of devices reports."""
    try:
        return start()
    except Exception:  # JAX's own, of many types
        return []
