"""Frozen parameters: which entries a pattern matches, and that a step keeps their bits."""

import jax
import numpy as np
import pytest
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.models import CLIP, conversion, trainable
from magmax_jax.training import fine_tune, make_trainer
from tests.training.cases import batches_of, task

LAYERS = "vision_model.encoder.layers"
Q_AND_V = [f"{LAYERS}.1.self_attn.{x}_proj.weight" for x in "qv"]


@pytest.fixture(scope="module")
def model(tiny_clip):
    return CLIP.from_pretrained(tiny_clip)


def hugging_face(model, tower_params) -> dict[str, np.ndarray]:
    """The model's image tensors by Hugging Face's names, with these parameters in its tower."""
    state = nnx.state(model)
    state["vision"] = jax.tree.map(np.asarray, tower_params)
    tensors = dict(conversion.to_hf(model.config.entries, state))
    return {k: v for k, v in tensors.items() if k.startswith("vis")}


def full(masks, params):
    """Masks in the parameters' own shapes."""
    return jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), masks, params)


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ((f"{LAYERS}.0.*",), lambda name: f"{LAYERS}.0." in name),
        ((f"{LAYERS}.[01].mlp.*",), lambda name: ".mlp." in name),
        (("*.k_proj.*",), lambda name: ".k_proj." in name),
        ((f"{LAYERS}.1.*.[qv]_proj.weight",), lambda name: name in Q_AND_V),
        (("*embedding*", "visual_projection.weight"), lambda n: "embed" in n or "projection" in n),
    ],
)
def test_patterns_are_hugging_faces_names(model, tower, patterns, frozen):
    masks = trainable(model.config, tower[1], patterns)
    for name, mask in hugging_face(model, full(masks, tower[1])).items():
        assert (mask == (not frozen(name))).all(), name
    entries = sum(np.size(mask) for mask in jax.tree.leaves(masks))
    assert entries <= 400  # constants of the compiled step: no masks in the parameters' shapes


def test_a_step_changes_no_frozen_bit_and_everything_else(model, tower):
    patterns = (f"{LAYERS}.0.*", "*.embeddings.*", *Q_AND_V)
    masks = trainable(model.config, tower[1], patterns)
    recipe = TrainConfig(crop_scale=(1.0, 1.0), learning_rate=1e-2, weight_decay=0.3)
    trainer = make_trainer(tower[0], Preprocessing(16), recipe, trainable=masks)
    tuned = fine_tune(trainer, tower[1], task(2), batches_of(2))
    before, after = hugging_face(model, tower[1]), hugging_face(model, tuned)
    stopped = {name for name in before if ".0." in name or ".embeddings." in name} | {*Q_AND_V}
    assert len(stopped) == 16 + 3 + 2
    for name, old in before.items():
        if name in stopped:
            np.testing.assert_array_equal(after[name], old, err_msg=name)
        elif "k_proj.bias" not in name:  # its gradient is rounding: softmax sees only differences
            assert (after[name] != old).mean() > 0.9, name


def test_the_clipped_norm_excludes_frozen_gradients(model, tower):
    recipe = TrainConfig(crop_scale=(1.0, 1.0))
    everything_else = ("*embedding*", "*.pre_layrnorm.*", "*.post_layernorm.*", "*projection*")
    norms = {}
    for patterns in ((), ("*.layers.*",), everything_else):
        masks = trainable(model.config, tower[1], patterns)
        trainer = make_trainer(tower[0], Preprocessing(16), recipe, trainable=masks)
        _, metrics = trainer.step(trainer.init(tower[1]), batches_of(2)[0], task(2))
        norms[patterns] = float(metrics.gradient_norm)
    whole, *parts = norms.values()
    np.testing.assert_allclose(np.hypot(*parts), whole, rtol=1e-5)
    assert min(parts) > 0


def test_no_pattern_freezes_nothing(model, tower):
    assert trainable(model.config, tower[1], ()) is None


def test_invalid_input_is_rejected(model, tower):
    with pytest.raises(UserError) as raised:
        trainable(model.config, tower[1], (f"{LAYERS}.0.*", "vision.blocks.*"))
    message = str(raised.value)
    assert message.startswith("train.freeze: 'vision.blocks.*' matches no parameter")
    assert f"{LAYERS}.*.self_attn.k_proj.bias" in message and "\n" not in message
    with pytest.raises(UserError, match="nothing would be trained"):
        trainable(model.config, tower[1], ("vision_model.*", "visual_projection.weight"))
