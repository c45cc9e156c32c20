"""Evaluation, text encoding and classification as accelerators get them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.data import Source
from magmax_jax.evaluation.evaluator import make_predict
from magmax_jax.models import normalise
from magmax_jax.scenarios import Head, Scenario, Task
from tests.lowering.programs import product_flops, program, programs, shapes
from tests.lowering.towers import (
    CLASSES,
    CLIP_B16,
    IMAGES,
    PREPROCESSING,
    SIDE,
    WIDTHS,
    batch,
    model,
    tower,
)


def scenario() -> Scenario:
    """Two tasks with half of the classes each."""
    images = np.zeros((2 * IMAGES, SIDE, SIDE, 3), np.uint8)
    names = tuple(map(str, range(CLASSES)))
    source = Source(images, np.zeros(2 * IMAGES, np.int32), names, image_shape=(SIDE, SIDE))
    every, none = np.arange(2 * IMAGES), np.zeros(0, np.int64)
    halves = np.split(np.arange(CLASSES), 2)
    tasks = (Task("first", none, every, halves[0]), Task("second", none, none, halves[1]))
    return Scenario("black", source, source, tasks, (Head(names, ("{}",)),))


def evaluate(dtype: str, family: str):
    """A pass of models over batches, as far as devices run it, and the parameters' shapes."""
    graphdef, theta = tower(dtype, family)
    head = jnp.zeros((WIDTHS[family], CLASSES))
    predict = make_predict(graphdef, PREPROCESSING, head, scenario())
    return lambda models, batches: list(predict(models, batches)), theta


@pytest.mark.parametrize(
    ("family", "dtype"), [("clip", "float32"), ("clip", "bfloat16"), ("siglip", "bfloat16")]
)
def test_models_share_a_pass_that_leaves_only_predictions_on_the_device(family, dtype, platform):
    function, theta = evaluate(dtype, family)
    found = programs(platform, lambda *models: function(models, [batch(), batch()]), theta, theta)
    assert [each.name for each in found] == ["evaluate", "eval_step", "eval_step"] * 2
    preprocess, first, second = found[:3]
    assert first is second is found[5] and preprocess is found[3]  # each is compiled once
    assert not preprocess.forbidden | first.forbidden
    (results,) = re.findall(r"@main\(.*\) -> \((.*)\) {", first.text)
    assert re.findall(r"tensor<(.*?)>", results) == [f"4x{IMAGES}xi32"]
    assert f"{CLASSES}x{CLASSES}x" not in first.text  # nothing is counted pair by pair
    assert first.count("__cudnn$fmhaSoftmax(") == (platform == "cuda" and dtype == "bfloat16")


def test_evaluation_computes_no_product_twice():
    """Images are preprocessed once, however many models there are."""
    function, theta = evaluate("float32", "clip")
    shown = product_flops(PREPROCESSING.evaluate, *shapes(batch())[:2])
    head = 2 * CLIP_B16.projection * CLASSES
    found = product_flops(lambda *models: function(models, [batch()]), theta, theta)
    assert found == shown + 2 * IMAGES * (CLIP_B16.forward_flops() + head)


@pytest.mark.parametrize("family", WIDTHS)
def test_texts_are_encoded_on_the_device(family, platform):
    graphdef, params = model(family).text_tower()

    def encode(params, ids):
        return normalise(nnx.merge(graphdef, params)(ids))

    context = model(family).config.text.context
    ids = jax.ShapeDtypeStruct((IMAGES, context), jnp.int32)
    assert not program(platform, jax.jit(encode), params, ids).forbidden
