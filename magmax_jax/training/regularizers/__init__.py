"""Penalties that keep a model close to previous tasks: baselines that MagMax is compared with."""

from typing import TYPE_CHECKING

from magmax_jax.packages import lazy_names
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


__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: reports read facts about regularizers without importing JAX."""
