"""Standalone image towers are completed by the CLIP that they were fine-tuned from, or refused."""

import json
from dataclasses import replace

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.models import CLIP, from_pretrained, is_tower_alone, known_shape
from tests.models.towers import BUFFER, write_tower, write_whole
from tests.models.weights import CONFIGS, weights, write_checkpoint

POSITIONS = "vision_model.embeddings.position_embedding.weight"


def leaves(model):
    return {str(path): x for path, x in jax.tree.leaves_with_path(nnx.state(model, nnx.Param))}


def assert_same(model, other):
    assert model.config == other.config
    ours, theirs = leaves(model), leaves(other)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, theirs[name], err_msg=name)


@pytest.mark.parametrize(
    ("prefix", "projection", "dtype"),
    [
        (True, False, np.float32),  # as transformers 4 saves a CLIPVisionModel
        (False, False, np.float16),  # as transformers 5 does
        (True, True, ml_dtypes.bfloat16),
        (False, True, np.float32),
    ],
)
def test_a_tower_is_completed(prefix, projection, dtype, tiny_clip, tmp_path):
    ways = {"prefix": prefix, "projection": projection, "dtype": dtype}
    buffer = {BUFFER: np.arange(5)[None]}
    tower = write_tower(tmp_path / "tower", tiny_clip, shift=0.01, extra=buffer, **ways)
    same = write_tower(tmp_path / "same", tiny_clip, shift=0.01, **ways)
    expected = CLIP.from_pretrained(write_whole(tmp_path / "whole", tiny_clip, same))
    assert is_tower_alone(tower) and not is_tower_alone(tiny_clip)
    for load in (CLIP.from_pretrained, from_pretrained):
        model = load(tower, text_source=tiny_clip)
        assert_same(model, expected)
        assert model.companions == expected.companions
    assert known_shape(str(tower), text_source=str(tiny_clip)) == (expected.config, "")


def test_the_towers_own_configuration_decides_the_image_size(legacy, tmp_path):
    positions = np.random.RandomState(0).uniform(-1, 1, (10, 24)).astype(np.float32)
    tower = write_tower(tmp_path / "tower", legacy, extra={POSITIONS: positions}, image_size=24)
    model = CLIP.from_pretrained(tower, text_source=legacy)
    np.testing.assert_array_equal(model.vision.position_embedding[...], positions)
    whole = CLIP.from_pretrained(legacy).config
    assert model.config == replace(whole, vision=replace(whole.vision, image_size=24))
    for load in (CLIP.from_pretrained, lambda *a, **k: known_shape(*map(str, a), **k)[0]):
        found = load(tower, text_source=str(legacy), image_size=40)
        assert getattr(found, "config", found) == whole.at_size(40)


def test_the_towers_own_preprocessor_is_preferred(tiny_clip, tmp_path):
    tower = write_tower(tmp_path / "tower", tiny_clip)
    model = CLIP.from_pretrained(tower, text_source=tiny_clip)
    assert model.preprocessor["image_mean"] == [0.5] * 3
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}
    (tower / "preprocessor_config.json").write_text(json.dumps(own))
    model = CLIP.from_pretrained(tower, text_source=tiny_clip)
    assert model.preprocessor == own
    assert model.tokenize(["a"]).tolist() == [[256, 64, 257]]


def test_a_completed_tower_is_saved_whole(tiny_clip, tmp_path):
    tower = write_tower(tmp_path / "tower", tiny_clip, prefix=False, shift=0.01)
    model = from_pretrained(tower, text_source=tiny_clip)
    model.save_pretrained(tmp_path / "saved")
    assert_same(from_pretrained(tmp_path / "saved"), model)


def test_a_published_model_completes_the_plan(tmp_path):
    """Nothing is downloaded to find the shape of either."""
    published, _ = known_shape("openai/clip-vit-base-patch32")
    tower = published.to_hf().vision_config.to_dict() | {"image_size": 288}
    (tmp_path / "config.json").write_text(json.dumps(tower))
    shape, unknown = known_shape(str(tmp_path), text_source="openai/clip-vit-base-patch32")
    assert (shape, unknown) == (published.at_size(288), "")
    shape, unknown = known_shape(str(tmp_path), text_source="someone/clip")
    assert (shape, unknown) == (None, "someone/clip is not on this machine yet")


def test_a_tower_without_text_source_is_refused(legacy, tmp_path):
    tower = write_tower(tmp_path / "tower", legacy)
    for ask in (CLIP.from_pretrained, from_pretrained, known_shape):
        with pytest.raises(UserError, match=r"only an image tower.*model.text_source=openai/clip"):
            ask(str(tower))


def test_a_whole_model_takes_no_text_source(legacy):
    for ask in (CLIP.from_pretrained, from_pretrained, known_shape):
        with pytest.raises(UserError, match="is not only an image tower: leave it out"):
            ask(str(legacy), text_source=str(legacy))


def test_a_text_source_needs_a_text_tower(legacy, tmp_path):
    tower = write_tower(tmp_path / "tower", legacy)
    for ask in (CLIP.from_pretrained, from_pretrained, known_shape):
        with pytest.raises(UserError, match=r"tower/config.json.*only an image tower"):
            ask(str(tower), text_source=str(tower))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_size": 48}, "hidden_size is 48, not 24"),
        ({"patch_size": 16}, "patch_size is 16, not 8"),
        ({"num_hidden_layers": 12}, "num_hidden_layers is 12, not 2"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, not 2"),
        ({"intermediate_size": 96}, "intermediate_size is 96, not 40"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu, not quick_gelu"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06, not 1e-05"),
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1"),
    ],
)
def test_a_tower_of_another_shape_is_refused(settings, words, legacy, tmp_path):
    tower = write_tower(tmp_path / "tower", legacy, **settings)
    for ask in (CLIP.from_pretrained, from_pretrained, known_shape):
        with pytest.raises(UserError, match=f"{tower}.*{words}"):
            ask(str(tower), text_source=str(legacy))


def test_a_projection_into_another_space_is_refused(legacy, tmp_path):
    wide = CONFIGS["legacy"] | {"projection_dim": 16}
    other = write_checkpoint(tmp_path / "wide", wide, weights(wide))
    tower = write_tower(tmp_path / "tower", other, projection=True)
    with pytest.raises(UserError, match=r"visual_projection.weight is \(16, 24\), not \(12, 24\)"):
        CLIP.from_pretrained(tower, text_source=legacy)


@pytest.mark.parametrize("name", ["text_projection.weight", "classifier.weight"])
def test_tensors_that_are_not_part_of_a_tower_are_refused(name, legacy, tmp_path):
    tower = write_tower(tmp_path / "tower", legacy, extra={name: np.ones((12, 16), np.float32)})
    with pytest.raises(UserError, match=f"hold {name}, too"):
        CLIP.from_pretrained(tower, text_source=legacy)


def test_an_incomplete_text_source_is_named(legacy, tmp_path):
    tensors = weights(CONFIGS["legacy"])
    del tensors["text_projection.weight"]
    broken = write_checkpoint(tmp_path / "broken", CONFIGS["legacy"], tensors)
    tower = write_tower(tmp_path / "tower", legacy)
    with pytest.raises(UserError, match=r"broken: its weights lack text_projection.weight"):
        CLIP.from_pretrained(tower, text_source=broken)
