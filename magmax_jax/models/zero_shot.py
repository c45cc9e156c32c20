"""The zero-shot head: class names in, a frozen classifier out."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.models.auto_axes import on_any_axes
from magmax_jax.models.base import Model
from magmax_jax.models.layers.normalise import normalise


def tokenize(model: Model, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 (len(texts), n), padded as the model's text tower expects.

    Raises:
      UserError: the model has no tokenizer or another model's, or a text exceeds its context.
    """
    return model.tokenize(texts)


def zero_shot_head(
    model: Model, class_names: Sequence[str], templates: Sequence[str], batch_size: int = 256
) -> jax.Array:
    """The classifier that a text tower builds from class names (Radford et al., 2021, 3.1.4).

    Per class, each template's text embedding is normalised; their mean is normalised again and
    multiplied by exp(logit_scale), so that logits = normalised image features @ head.

    Args:
      class_names: k names, put into each template's `{}`.
      templates: at least one.
      batch_size: texts per forward pass; all passes have one shape, so only one is compiled.

    Returns:
      float32 (p, k), on the device.

    Raises:
      UserError: as `prompts` and `tokenize` do.
    """
    texts = prompts(class_names, templates)
    ids = model.tokenize(texts)
    batch_size = min(batch_size, len(texts))
    graphdef, params = model.text_tower()

    padding = np.repeat(ids[:1], -len(ids) % batch_size, axis=0)
    batches = np.concatenate([ids, padding]).reshape(-1, batch_size, ids.shape[1])
    features = jnp.concatenate([_encode(graphdef, params, batch) for batch in batches])
    means = features[: len(texts)].reshape(len(class_names), len(templates), -1).mean(axis=1)
    return jnp.exp(model.logit_scale[...]) * normalise(means).T


def prompts(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every class name in every template, class by class.

    Raises:
      UserError: there is no class or no template, a template has no `{}`, or a class name is not
        valid text, e.g. a folder's name that is not UTF-8.
    """
    for given, kind in ((class_names, "class names"), (templates, "templates")):
        if not given:
            raise UserError(f"there are no {kind}: give at least one")
    for template in templates:
        if "{}" not in template:
            raise UserError(f"the template {template!r} has no {{}} where the class name goes")
    for name in class_names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(
                f"the class name {name!r} cannot be encoded as UTF-8: rename the class or its "
                "folder"
            )
    return [template.replace("{}", name) for name in class_names for template in templates]


def alike(
    model: Model, class_names: Sequence[str], templates: Sequence[str]
) -> list[tuple[int, ...]]:
    """Groups of classes whose prompts have the same token ids in every template.

    Returns:
      positions in `class_names`, two or more per group; [] if all classes differ.

    Raises:
      UserError: as `prompts` and `tokenize` do.
    """
    found = [tuple(range(len(class_names)))]
    for several in (templates[:1], templates):  # one template rules out most classes
        here = [i for group in found for i in group]
        if not here:
            break
        ids = model.tokenize(prompts([class_names[i] for i in here], several))
        by_ids: dict[bytes, list[int]] = {}
        for i, row in zip(here, ids.reshape(len(here), -1), strict=True):
            by_ids.setdefault(row.tobytes(), []).append(i)
        found = [tuple(group) for group in by_ids.values() if len(group) > 1]
    return found


@on_any_axes(batch=2)
@partial(jax.jit, static_argnums=0)
def _encode(graphdef: nnx.GraphDef, params: nnx.State, ids: jax.Array) -> jax.Array:
    """Token ids (b, n) -> normalised text features (b, p)."""
    return normalise(nnx.merge(graphdef, params)(ids))
