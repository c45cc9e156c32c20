"""The stages of `stages.py` as transformers' torch CLIP computes them: the reference."""

import numpy as np
import torch
from transformers import CLIPModel


def torch_stages(model: CLIPModel, pixels: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage's output by name; images of another size interpolate the position embedding."""
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    ids = torch.from_numpy(np.asarray(ids, np.int64))
    found, hooks = {}, []

    def keep(name: str, module: torch.nn.Module) -> None:
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
