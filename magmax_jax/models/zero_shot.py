"""The zero-shot head: class names in, a frozen classifier out."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.models.clip import CLIP, normalise


def tokenize(model: CLIP, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 (len(texts), n), n the length of the longest text, padded behind each EOS.

    Raises:
      UserError: the model came without a tokenizer, or a text exceeds its context.
    """
    if model.tokenizer is None:
        raise UserError(
            "the model's directory has no tokenizer (tokenizer.json, or vocab.json and merges.txt), "
            "which its text tower needs: copy the tokenizer files of the original model into it"
        )
    ids = model.tokenizer(list(texts))["input_ids"]
    longest = max(range(len(ids)), key=lambda i: len(ids[i]))
    if len(ids[longest]) > model.config.text.context:
        raise UserError(
            f"the text {texts[longest]!r} has {len(ids[longest])} tokens, the model takes at most "
            f"{model.config.text.context}: shorten the class name or the template"
        )
    # The towers see nothing behind the first EOS, so any id pads; repeating it suits both poolings.
    padded = np.array([row + row[-1:] * (len(ids[longest]) - len(row)) for row in ids], np.int32)
    return padded


def zero_shot_head(
    model: CLIP, class_names: Sequence[str], templates: Sequence[str], batch_size: int = 256
) -> jax.Array:
    """The classifier that CLIP's text tower makes of class names (Radford et al., 2021, 3.1.4).

    Per class, each template's text embedding is normalised; their mean is normalised again and
    multiplied by exp(logit_scale), so that logits = normalised image features @ head.

    Args:
      class_names: k names, put into each template's `{}`.
      templates: at least one.
      batch_size: texts a forward pass; all passes have one shape, so one is compiled.

    Returns:
      float32 (p, k), on the device.
    """
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    ids = tokenize(model, texts)
    batch_size = min(batch_size, len(texts))
    graphdef, params = nnx.split(model.text)

    @jax.jit
    def encode(params: nnx.State, ids: jax.Array) -> jax.Array:
        return normalise(nnx.merge(graphdef, params)(ids))

    padding = np.repeat(ids[:1], -len(ids) % batch_size, axis=0)
    batches = np.concatenate([ids, padding]).reshape(-1, batch_size, ids.shape[1])
    features = jnp.concatenate([encode(params, batch) for batch in batches])[: len(texts)]
    means = features.reshape(len(class_names), len(templates), -1).mean(axis=1)
    return jnp.exp(model.logit_scale[...]) * normalise(means).T
