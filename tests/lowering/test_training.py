"""The training step, penalties and Fisher information as accelerators get them."""

import jax
import pytest

from magmax_jax.config import MethodConfig, TrainConfig
from magmax_jax.models import trainable
from magmax_jax.registry import REGULARIZERS
from magmax_jax.training import TrainState, build_regularizer, make_trainer
from magmax_jax.training.regularizers import diagonal_fisher
from tests.lowering.programs import Program, product_flops, program, programs, shapes, tree_bytes
from tests.lowering.towers import (
    CLASSES,
    CLIP_B16,
    IMAGES,
    PREPROCESSING,
    WIDTHS,
    batch,
    objective,
    tower,
)


def step(graphdef, theta, config=TrainConfig(), penalty=None, memory=(), **options):  # noqa: B008
    """A trainer's step and its arguments, as shapes only."""
    trainer = make_trainer(graphdef, PREPROCESSING, config, penalty, **options)
    state = jax.eval_shape(trainer.init, theta)
    width = theta["projection"]["kernel"].shape[1] if "projection" in theta else WIDTHS["siglip"]
    return trainer.step, state, shapes(batch()), objective(width), memory


def check(found: Program, state: TrainState) -> None:
    """Everything runs on the device; parameters, moments and counter are updated in place."""
    assert not found.forbidden
    assert found.donated == tree_bytes(state) > 12 * 80e6


def attentions(found: Program) -> list[int]:
    """Number of calls of cuDNN's attention and of its gradient."""
    return [found.count(f"__cudnn$fmhaSoftmax{part}(") for part in ("", "Backward")]


@pytest.mark.parametrize(
    ("family", "dtype"), [("clip", "float32"), ("clip", "bfloat16"), ("siglip", "bfloat16")]
)
def test_a_step_is_on_the_device_and_updates_in_place(family, dtype, platform):
    function, state, *rest = step(*tower(dtype, family))
    found = program(platform, function, state, *rest)
    check(found, state)
    # The gradient reuses stored results, so attention runs only once forward.
    assert attentions(found) == [1 * (platform == "cuda" and dtype == "bfloat16")] * 2


def test_a_step_of_another_recipe_is_too(platform):
    """Batches in parts, blocks rematerialised, some parameters frozen."""
    graphdef, theta = tower("bfloat16", remat=True)
    frozen = trainable(CLIP_B16, theta, ["*.layers.0.*", "*.q_proj.*"])
    recipe = TrainConfig(accumulate=2, label_smoothing=0.1, crop_scale=(1.0, 1.0))
    function, state, *rest = step(graphdef, theta, recipe, trainable=frozen)
    check(program(platform, function, state, *rest), state)


@pytest.mark.parametrize("name", [name for name in REGULARIZERS if not REGULARIZERS[name].is_plain])
def test_penalties_and_their_consolidation_are_too(name, platform):
    graphdef, theta = tower("bfloat16")
    method = MethodConfig(regularizer=name, strength=1.0)
    regularizer = build_regularizer(method, graphdef, PREPROCESSING, CLASSES)
    memory = jax.eval_shape(regularizer.init, theta)
    function, state, *rest = step(graphdef, theta, penalty=regularizer.penalty, memory=memory)
    check(program(platform, function, state, *rest), state)
    batches = [shapes(batch())]
    after = programs(platform, regularizer.consolidate, memory, theta, batches, objective())
    assert not {forbidden for each in after for forbidden in each.forbidden}
    assert all(each.donated for each in after if each.name != "begin")


@pytest.mark.parametrize("kind", ["empirical", "batch", "accumulated"])
def test_fisher_sums_are_updated_in_place(kind, platform):
    graphdef, theta = tower("bfloat16")
    fisher = diagonal_fisher(graphdef, PREPROCESSING, kind)
    some = shapes(batch())
    begin, first, second, mean = programs(platform, fisher, theta, [some, some], objective())
    assert first is second  # compiled once
    assert not begin.forbidden | first.forbidden | mean.forbidden
    # Also for single examples, under vmap, with CLIP's odd number of tokens.
    assert attentions(first) == [1 * (platform == "cuda")] * 2
    size = tree_bytes(theta)
    assert first.donated == (2 if kind == "accumulated" else 1) * size + 4
    assert mean.donated == size


@pytest.mark.parametrize("remat", [False, True])
def test_a_step_recomputes_only_products_that_it_does_not_keep(remat):
    """Against the forward pass's formula; a gradient costs two forward passes."""
    vision, projection = CLIP_B16.vision, CLIP_B16.projection
    forward, width = CLIP_B16.forward_flops(), vision.width
    tokens = vision.grid**2 + 1
    patches = 2 * 3 * vision.patch_size**2 * width * vision.grid**2
    attention = vision.layers * 2 * 2 * tokens**2 * width
    last = vision.layers * 2 * tokens * width * vision.mlp  # a block's output is not needed again
    again = forward - patches - 2 * width * projection - last if remat else attention
    head = 2 * projection * CLASSES
    per_image = 3 * forward + again + 2 * head - patches  # no gradient of head and pixels
    some = shapes(batch())
    shown = product_flops(PREPROCESSING.evaluate, some.image, some.box)
    found = product_flops(*step(*tower("float32", remat=remat)))
    assert found == IMAGES * per_image + shown
