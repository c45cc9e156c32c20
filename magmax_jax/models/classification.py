"""Zero-shot classification with any model: images in, class names and probabilities out.

Letters in shapes: b images, p width of the space that images and texts share, k classes.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.inputs.host_resize import centre_square, untouched
from magmax_jax.inputs.preprocessing import Preprocessing
from magmax_jax.inputs.rgb import rgb_batch, rgb_images
from magmax_jax.models.auto_axes import no_mesh, under_auto_axes
from magmax_jax.models.base import Model, ZeroShot
from magmax_jax.models.layers.normalise import normalise
from magmax_jax.models.recent_heads import recent_head
from magmax_jax.registry import MODEL_FAMILIES


class Classified(NamedTuple):
    """The classification of b images.

    Attributes:
      labels: the most likely class name of each image, i.e. with the highest logit; the first one
        on ties.
      scores: float32 (b,), the probability of that class.
      probabilities: float32 (b, k), of every class in the given order. Their meaning depends on the
        model family. CLIP's compare the classes, and rows sum to one; SigLIP's judge each class
        independently, and rows need not sum to one.
    """

    labels: list[str]
    scores: np.ndarray
    probabilities: np.ndarray


def preprocess(model: Model, images: Any) -> jax.Array:
    """Images as `encode_image` takes them: float32 (b, size, size, 3), b = 1 for one image.

    Images are resized, cropped and normalised like the model's own image processor does, as in
    evaluation: an array (b, h, w, 3), whose images have one size, is resized on the device; other
    images on the host, rounded to integers as transformers' processors do.

    Args:
      model: of any family.
      images: one or many, as `inputs.rgb.rgb_images` takes them; no images give
        (0, size, size, 3).

    Raises:
      UserError: an image cannot be read, or its array has another dtype or shape.
    """
    preprocessing = preprocessing_of(model)
    size = preprocessing.size
    none = np.zeros((0, size, size, 3), np.uint8), np.zeros((0, 4), np.int32)
    return _evaluate(preprocessing, *next(_batches(images, preprocessing), none))


def preprocessing_of(model: Model) -> Preprocessing:
    """The model's own preprocessing, at the size of the model's images."""
    return Preprocessing.from_config(model.preprocessor or {}, model.config.image_size)


def classify(
    model: Model,
    images: Any,
    class_names: Sequence[str],
    templates: str | Sequence[str] | None = None,
    batch_size: int = 64,
) -> Classified:
    """Classifies images zero-shot among `class_names` (Radford et al., 2021, 3.1.4).

    Logits are exp(logit_scale) times the cosines of image and class. The family turns them into
    probabilities, as transformers' zero-shot pipeline does: softmax for CLIP, and for SigLIP
    sigmoid(logits + logit_bias), class by class.

    Args:
      model: of any family, sharded on any mesh or not.
      images: one or many, as `preprocess` takes them; they are read `batch_size` at a time, so a
        generator may yield more than fit in memory.
      class_names: k distinct names.
      templates: prompts with {} in place of the class name. Defaults to the family's general one:
        CLIP's is "a photo of a {}.", SigLIP's "This is a photo of {}.".
        `inputs.prompts.OBJECTS` are the 80 that CLIP's authors average for ImageNet.
      batch_size: images per forward pass.

    Raises:
      UserError: there are no classes, or a class is repeated or not a string; a template has no
        `{}`; there is no tokenizer; an image cannot be read; or parameters are not finite.
    """
    names = _checked(class_names)
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: give at least 1")
    if templates is None:
        templates = _zero_shot(model).templates
    templates = [templates] if isinstance(templates, str) else templates
    with no_mesh():
        best, every = _classified(under_auto_axes(model), images, names, templates, batch_size)
    if not np.isfinite(every).all():
        raise UserError(
            "the model gives no finite probabilities: its parameters contain NaN, infinity or only "
            "zeros: load the checkpoint again"
        )
    return Classified([names[i] for i in best], every[np.arange(len(best)), best], every)


def _classified(
    model: Model, images: Any, names: list[str], templates: Sequence[str], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The class of the highest logit (b,), and probabilities float32 (b, k)."""
    head = recent_head(model, names, templates)
    best, every = [np.zeros(0, np.int32)], [np.zeros((0, len(names)), np.float32)]
    preprocessing = preprocessing_of(model)
    for batch, boxes in _batches(images, preprocessing, batch_size):
        # Pad a batch to a power of two with its last image, so that few shapes are compiled.
        rows = min(batch_size, 1 << (len(batch) - 1).bit_length())
        chosen = np.minimum(np.arange(rows), len(batch) - 1)
        pixels = _evaluate(preprocessing, batch[chosen], boxes[chosen])
        highest, probabilities = _probabilities(model, pixels, head)
        best.append(np.asarray(highest)[: len(batch)])
        every.append(np.asarray(probabilities)[: len(batch)])
    return np.concatenate(best), np.concatenate(every)


def _batches(
    images: Any, preprocessing: Preprocessing, count: int = sys.maxsize
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8 (b, H, W, 3), at their own size if evaluation keeps it, and boxes int32 (b, 4).

    b is at most `count`.
    """
    size, geometry = preprocessing.size, preprocessing.geometry
    batch = rgb_batch(images)
    if batch is not None and untouched(batch.shape[1:3], size):
        for start in range(0, len(batch), count):
            some = batch[start : start + count]
            yield some, np.tile(np.array([0, 0, *some.shape[1:3]], np.int32), (len(some), 1))
        return
    squares = (centre_square(image, size, geometry) for image in rgb_images(images))
    while several := list(itertools.islice(squares, count)):
        pixels, boxes = zip(*several, strict=True)
        yield np.stack(pixels), np.array(boxes, np.int32)


_evaluate = jax.jit(Preprocessing.evaluate, static_argnums=0)


@jax.jit
def _probabilities(model: Model, pixels: jax.Array, head: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The class of the highest logit (b,), and probabilities float32 (b, k).

    Compares logits, because several sigmoids may round to one.
    """
    logits = normalise(model.encode_image(pixels)) @ head
    return logits.argmax(axis=1), _zero_shot(model).probabilities(model, logits)


def _zero_shot(model: Model) -> ZeroShot:
    """The family's `ZeroShot`; models of unregistered families get the default."""
    name = model.config.model_type
    return MODEL_FAMILIES[name].zero_shot if name in MODEL_FAMILIES else ZeroShot()


def _checked(class_names: Sequence[str]) -> list[str]:
    if isinstance(class_names, str):
        raise UserError(f"class_names is the string {class_names!r}: give a list of names")
    names = list(class_names)
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"the class name {name!r} is not a string: give its name as text")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"class names are given more than once: {', '.join(repeated)}")
    return names
