"""Images in, class names and probabilities out: a model of any family as a zero-shot classifier.

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
from magmax_jax.inputs.prompts import ANY
from magmax_jax.inputs.rgb import rgb_batch, rgb_images
from magmax_jax.models.auto_axes import no_mesh, under_auto_axes
from magmax_jax.models.base import Model
from magmax_jax.models.layers.normalise import normalise
from magmax_jax.models.recent_heads import recent_head


class Classified(NamedTuple):
    """What b images show.

    Attributes:
      labels: the likeliest class name of each image; the first of equally likely ones.
      scores: float32 (b,), the probability of that class.
      probabilities: float32 (b, k), of every class in the order in which they were given; rows sum
        to one.
    """

    labels: list[str]
    scores: np.ndarray
    probabilities: np.ndarray


def preprocess(model: Model, images: Any) -> jax.Array:
    """Images as `encode_image` takes them: float32 (b, size, size, 3), b = 1 for one image.

    Images are resized, cropped and normalised as the model's own image processor does, as in
    evaluation: an array (b, h, w, 3), whose images have one size, is resized on the device; other
    images on the host, to whole numbers as by transformers' processors.

    Args:
      model: of any family.
      images: one or many, as `inputs.rgb.rgb_images` takes them; none give (0, size, size, 3).

    Raises:
      UserError: an image cannot be read, or its array has another dtype or shape.
    """
    preprocessing = _preprocessing(model)
    size = preprocessing.size
    none = np.zeros((0, size, size, 3), np.uint8), np.zeros((0, 4), np.int32)
    return _evaluate(preprocessing, *next(_batches(images, preprocessing), none))


def classify(
    model: Model,
    images: Any,
    class_names: Sequence[str],
    templates: str | Sequence[str] = ANY,
    batch_size: int = 64,
) -> Classified:
    """Which of `class_names` each image shows, without training (Radford et al., 2021, 3.1.4).

    Probabilities are the softmax of exp(logit_scale) times the cosines of image and class.

    Args:
      model: of any family, sharded on any mesh or not.
      images: one or many, as `preprocess` takes them; they are read `batch_size` at a time, so a
        generator may yield more than memory holds.
      class_names: k different names.
      templates: prompts with {} in place of the class name. By default CLIP's own for a data set
        about which nothing is known, "a photo of a {}."; `inputs.prompts.OBJECTS` are the 80 that
        CLIP's authors average for ImageNet.
      batch_size: images a forward pass.

    Raises:
      UserError: no class, one that is given twice or is no string, a template without `{}`, no
        tokenizer, an image that cannot be read, or parameters that are not finite.
    """
    names = _checked(class_names)
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: give at least 1")
    templates = [templates] if isinstance(templates, str) else templates
    with no_mesh():
        every = _probabilities_of(under_auto_axes(model), images, names, templates, batch_size)
    if not np.isfinite(every).all():
        raise UserError(
            "the model gives no finite probabilities: its parameters hold NaN, infinity or zeros "
            "alone: load the checkpoint again"
        )
    labels = [names[i] for i in every.argmax(axis=1)]
    return Classified(labels, every.max(axis=1), every)


def _probabilities_of(
    model: Model, images: Any, names: list[str], templates: Sequence[str], batch_size: int
) -> np.ndarray:
    """float32 (b, k)."""
    head = recent_head(model, names, templates)
    found = [np.zeros((0, len(names)), np.float32)]
    preprocessing = _preprocessing(model)
    for batch, boxes in _batches(images, preprocessing, batch_size):
        # Few shapes compile few programs: the last image pads a batch to a power of two.
        rows = min(batch_size, 1 << (len(batch) - 1).bit_length())
        chosen = np.minimum(np.arange(rows), len(batch) - 1)
        pixels = _evaluate(preprocessing, batch[chosen], boxes[chosen])
        probabilities = _probabilities(model, pixels, head)
        found.append(np.asarray(probabilities)[: len(batch)])
    return np.concatenate(found)


def _preprocessing(model: Model) -> Preprocessing:
    return Preprocessing.from_config(model.preprocessor or {}, model.config.image_size)


def _batches(
    images: Any, preprocessing: Preprocessing, count: int = sys.maxsize
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8 (b, H, W, 3), of their own size if evaluation leaves them that, and boxes int32 (b, 4).

    b is `count` at most.
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
def _probabilities(model: Model, pixels: jax.Array, head: jax.Array) -> jax.Array:
    """float32 (b, k)."""
    return jax.nn.softmax(normalise(model.encode_image(pixels)) @ head)


def _checked(class_names: Sequence[str]) -> list[str]:
    if isinstance(class_names, str):
        raise UserError(f"class_names is the string {class_names!r}: give a list of names")
    names = list(class_names)
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"the class name {name!r} is no string: give its name as text")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"class names are given more than once: {', '.join(repeated)}")
    return names
