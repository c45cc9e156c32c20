"""Penalties that keep a model close to previous tasks: baselines that MagMax is compared with."""

import importlib
from typing import TYPE_CHECKING, Any

from magmax_jax.training.regularizers.base import Regularizer, RegularizerSpec, Setup
from magmax_jax.training.regularizers.check import check_method
from magmax_jax.training.regularizers.ewc import Anchor, ewc
from magmax_jax.training.regularizers.l2_sp import l2_sp
from magmax_jax.training.regularizers.lwf import Teacher, distillation, lwf
from magmax_jax.training.regularizers.none import none

if TYPE_CHECKING:
    from magmax_jax.training.regularizers.build import build_regularizer
    from magmax_jax.training.regularizers.fisher import diagonal_fisher

_HOMES = {"build_regularizer": "build", "diagonal_fisher": "fisher"}
"""Public name that needs JAX -> the module that defines it."""
__all__ = [
    "Anchor",
    "Regularizer",
    "RegularizerSpec",
    "Setup",
    "Teacher",
    "build_regularizer",
    "check_method",
    "diagonal_fisher",
    "distillation",
    "ewc",
    "l2_sp",
    "lwf",
    "none",
]


def __getattr__(name: str) -> Any:
    """Lazy imports: reports read facts about regularizers without importing JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
