"""Builds the configuration's regularizer."""

from flax import nnx

from magmax_jax.config import MethodConfig
from magmax_jax.data import Preprocessing
from magmax_jax.registry import REGULARIZERS
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training.regularizers.base import Regularizer, Setup
from magmax_jax.training.regularizers.check import check_method


def build_regularizer(
    config: MethodConfig,
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    num_classes: int,
    layout: Layout | None = None,
) -> Regularizer:
    """The configuration's regularizer, at its published strength unless another is set.

    Args:
      config: selects it.
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      num_classes: k, of the whole scenario.
      layout: where parameters are placed; one device by default.

    Raises:
      UserError: as `check_method` does.
    """
    check_method(config)
    spec = REGULARIZERS[config.regularizer]
    strength = spec.strength if config.strength is None else config.strength
    return spec.build(
        Setup(
            tower=tower,
            preprocessing=preprocessing,
            num_classes=num_classes,
            strength=strength or 0.0,
            method=config,
            layout=layout or one_device(),
        )
    )
