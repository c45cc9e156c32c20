"""CLIP's forward pass, stage by stage: here ours, `torch_stages.py` gives transformers' own."""

from functools import partial

import jax
import numpy as np
from flax import nnx

from magmax_jax.models import CLIP, normalise


def stages(model: CLIP, pixels: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage's output by name, float32, computed in the highest precision.

    Args:
      model: of float32 computation.
      pixels: normalised (b, height, width, 3).
      ids: (t, n).
    """
    graphdef, params = nnx.split(model)
    with jax.default_matmul_precision("highest"):
        found = _stages(graphdef, params, pixels, ids)
    return {name: np.asarray(value) for name, value in found.items()}


@partial(jax.jit, static_argnums=0)
def _stages(graphdef, params, pixels, ids):
    model, found = nnx.merge(graphdef, params), {}
    for name, tower, given in (("vision", model.vision, pixels), ("text", model.text, ids)):
        x = found[f"{name}.embeddings"] = tower.embed(given)
        if name == "vision":
            x = tower.pre_norm(x)
        blocks, stacked = nnx.split(tower.blocks)
        first = nnx.merge(blocks, jax.tree.map(lambda leaf: leaf[0], stacked))
        b, n, d = x.shape
        found[f"{name}.block"] = first(x.reshape(b * n, d), n).reshape(b, n, d)
        found[f"{name}.features"] = normalise(tower(given))
    return found | {"logits": model(pixels, ids)}
