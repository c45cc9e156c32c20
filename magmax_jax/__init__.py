"""Continual learning by model merging: MagMax for CLIP, in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magmax_jax.merging import MergeRule, apply_task_vector, merge, rules, task_vector
    from magmax_jax.models import CLIP

__version__ = "0.1.0"
__all__ = ["CLIP", "MergeRule", "apply_task_vector", "merge", "rules", "task_vector"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for: who merges files need not wait for Flax, nor `--help` for JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "models" if name == "CLIP" else "merging"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
