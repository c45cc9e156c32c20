"""CLIP's forward pass, stage by stage: ours and transformers' in torch."""

from functools import partial

import jax
import numpy as np
from flax import nnx

from magmax_jax.models import CLIP, normalise


def stages(model: CLIP, pixels: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage's output by name, in float32 at the highest precision.

    Args:
      model: a model that computes in float32.
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


def torch_stages(model, pixels: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The same stages of a reference `transformers.CLIPModel`; interpolates for other sizes."""
    import torch

    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    ids = torch.from_numpy(np.asarray(ids, np.int64))
    found, hooks = {}, []

    def keep(name: str, module) -> None:
        def hook(module, args, output):
            found[name] = output[0] if isinstance(output, tuple) else output

        hooks.append(module.register_forward_hook(hook))

    for name, tower in (("vision", model.vision_model), ("text", model.text_model)):
        keep(f"{name}.embeddings", tower.embeddings)
        keep(f"{name}.block", tower.encoder.layers[0])
    resized = images.shape[-1] != model.config.vision_config.image_size
    with torch.no_grad():
        output = model(pixel_values=images, input_ids=ids, interpolate_pos_encoding=resized)
    for hook in hooks:
        hook.remove()
    found["vision.features"] = output.image_embeds
    found["text.features"] = output.text_embeds
    found["logits"] = output.logits_per_image
    return {name: value.numpy() for name, value in found.items()}
