"""Merge rules under their short name: `import magmax_jax.rules`, or `mm.rules`."""

from magmax_jax.merging.rules import *  # noqa: F403
from magmax_jax.merging.rules import __all__ as __all__
