"""Penalties that keep a model near the tasks before: the baselines that MagMax is compared with."""

from flax import nnx

from magmax_jax.config import MethodConfig
from magmax_jax.data import Preprocessing
from magmax_jax.sharding import Layout
from magmax_jax.training.regularizers.base import Regularizer, l2_sp, none
from magmax_jax.training.regularizers.ewc import Anchor, ewc
from magmax_jax.training.regularizers.fisher import diagonal_fisher
from magmax_jax.training.regularizers.lwf import Teacher, distillation, lwf

__all__ = [
    "Anchor",
    "Regularizer",
    "Teacher",
    "build_regularizer",
    "diagonal_fisher",
    "distillation",
    "ewc",
    "l2_sp",
    "lwf",
    "none",
]


def build_regularizer(
    config: MethodConfig,
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    num_classes: int,
    layout: Layout | None = None,
) -> Regularizer:
    """The configuration's regularizer, at its published strength unless another is set.

    Args:
      config: which one.
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      num_classes: k, of the whole scenario.
      layout: where parameters lie; one device by default.
    """
    strength = {} if config.strength is None else {"strength": config.strength}
    build = {
        "none": none,
        "ewc": lambda: ewc(tower, preprocessing, fisher=config.fisher, layout=layout, **strength),
        "lwf": lambda: lwf(tower, num_classes, **strength),
        "l2_sp": lambda: l2_sp(**strength),
    }
    return build[config.regularizer]()
