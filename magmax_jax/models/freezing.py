"""Selects which parameters of the image tower are trained, by the names that users know."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from flax import nnx

from magmax_jax.errors import ConfigError
from magmax_jax.models.base import ModelShape
from magmax_jax.models.conversion import flat, part_shapes


def trainable(
    config: ModelShape, params: nnx.State, frozen: Sequence[str], field: str = "train.freeze"
) -> nnx.State | None:
    """Masks of the image tower's entries that are trained, i.e. not frozen by name.

    Names are Hugging Face's (`vision_model.encoder.layers.3.mlp.fc1.weight`,
    `visual_projection.weight`), although our blocks are stacked over layers and our q, k and v are
    one kernel: a single layer, or its keys alone, can be frozen.

    Args:
      config: of the model whose image tower it is.
      params: the tower's; only shapes are read.
      frozen: `fnmatch` patterns (`*`, `?`, `[0-5]`), case-sensitive. `.` is not special:
        `layers.1.*` is one layer, and `layers.1*` may be several.
      field: the name of the patterns in messages.

    Returns:
      `params` with bool NumPy arrays as leaves, True where trained, each of the smallest shape that
      broadcasts to its parameter; None if there are no patterns, so nothing is frozen.

    Raises:
      ConfigError: a pattern matches no name, or together they match all.
    """
    if not frozen:
        return None
    entries = config.image_entries
    names = [name for entry in entries for layer in entry.names for name in layer]
    stopped = set()
    for pattern in frozen:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(
                f"{field}: {pattern!r} matches no parameter of the image tower; they are "
                + ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
            )
        stopped.update(matched)
    if len(stopped) == len(names):
        raise ConfigError(
            f"{field}: the patterns match all parameters, so nothing would be trained: use "
            "fewer or narrower patterns"
        )

    leaves = dict(flat(params))
    masks = {}
    for entry in entries:
        shapes = part_shapes(entry, leaves[entry.path].shape)
        layers = []
        for layer in entry.names:
            parts = [
                np.broadcast_to(name not in stopped, shape)
                for name, shape in zip(layer, shapes, strict=True)
            ]
            layers.append(_smallest(entry.layout.join(parts)))
        stacked = np.stack(np.broadcast_arrays(*layers))
        masks[entry.path] = _smallest(stacked) if entry.stacked else layers[0]
    return nnx.from_flat_state(
        [
            (path, leaf.replace(masks[".".join(map(str, path))]))
            for path, leaf in nnx.to_flat_state(params)
        ]
    )


def _smallest(mask: np.ndarray) -> np.ndarray:
    """The mask with every constant axis reduced to length one."""
    for axis in range(mask.ndim):
        first = mask.take([0], axis)
        if (mask == first).all():
            mask = first
    return mask
