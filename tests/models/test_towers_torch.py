"""Standalone image towers give the features that transformers' torch models compute."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.models import CLIP
from tests.models.weights import CONFIGS, pixels, weights, write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(params=["legacy", "modern"])
def whole(request, tmp_path):
    config = CONFIGS[request.param]
    return write_checkpoint(tmp_path / "whole", config, weights(config))


def model_of(kind, whole):
    """A torch model with other weights than the whole model's."""
    torch.manual_seed(0)
    described = transformers.CLIPConfig.from_pretrained(whole)
    vision = described.vision_config
    vision.projection_dim = described.projection_dim
    return kind(vision).eval()


def outputs(model, images):
    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))


def assert_same_features(ours, theirs):
    """At most 2e-5 between normalised features."""
    pairs = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)]
    np.testing.assert_allclose(*pairs, atol=2e-5, rtol=0)


def names(directory):
    return set(load_file(directory / "model.safetensors"))


def test_a_tower_with_projection(whole, tmp_path):
    model = model_of(transformers.CLIPVisionModelWithProjection, whole)
    model.save_pretrained(tmp_path / "tower")
    ours = CLIP.from_pretrained(tmp_path / "tower", text_source=whole)
    images = pixels(ours.config.image_size)
    expected = outputs(model, images).image_embeds.numpy()
    assert_same_features(ours.encode_image(images), expected)


def test_a_tower_without_prefix_is_projected_like_the_whole_model(whole, tmp_path):
    model = model_of(transformers.CLIPVisionModel, whole)
    model.save_pretrained(tmp_path / "tower")
    assert "embeddings.class_embedding" in names(tmp_path / "tower")
    ours = CLIP.from_pretrained(tmp_path / "tower", text_source=whole)
    images = pixels(ours.config.image_size)
    projection = transformers.CLIPModel.from_pretrained(whole).visual_projection
    with torch.no_grad():
        expected = projection(outputs(model, images).pooler_output).numpy()
    assert_same_features(ours.encode_image(images), expected)


def test_a_tower_that_transformers_extracted_from_a_model(whole, tmp_path):
    """It keeps the names of the checkpoint that it was read from, and the features."""
    transformers.CLIPVisionModel.from_pretrained(whole).save_pretrained(tmp_path / "tower")
    assert "vision_model.embeddings.class_embedding" in names(tmp_path / "tower")
    ours = CLIP.from_pretrained(tmp_path / "tower", text_source=whole)
    theirs = CLIP.from_pretrained(whole)
    images = pixels(ours.config.image_size)
    np.testing.assert_array_equal(ours.encode_image(images), theirs.encode_image(images))


def test_a_completed_tower_is_saved_for_transformers(whole, tmp_path):
    model = model_of(transformers.CLIPVisionModelWithProjection, whole)
    model.save_pretrained(tmp_path / "tower")
    CLIP.from_pretrained(tmp_path / "tower", text_source=whole).save_pretrained(tmp_path / "saved")
    saved, before = (
        transformers.CLIPModel.from_pretrained(d).eval() for d in (tmp_path / "saved", whole)
    )
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(saved.state_dict()[name], x)
    for name, x in before.text_model.state_dict().items():
        np.testing.assert_array_equal(saved.text_model.state_dict()[name], x)
