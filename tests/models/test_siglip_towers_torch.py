"""Standalone SigLIP image towers give the features that transformers' torch models compute."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.errors import UserError
from magmax_jax.models import from_pretrained, known_shape
from tests.models.weights import pixels

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOWER = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
TEXT = TOWER | {"vocab_size": 60, "max_position_embeddings": 11, "projection_size": 24}


@pytest.fixture
def whole(tmp_path):
    torch.manual_seed(1)
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    transformers.SiglipModel(config).save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


def tower(directory, **settings):
    torch.manual_seed(0)
    config = transformers.SiglipVisionConfig(**(VISION | settings))
    model = transformers.SiglipVisionModel(config).eval()
    model.save_pretrained(directory)
    return model


def test_a_tower_is_completed(whole, tmp_path):
    model = tower(tmp_path / "tower")
    ours = from_pretrained(tmp_path / "tower", text_source=whole)
    images = pixels(32)
    with torch.no_grad():
        features = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).pooler_output
    both = np.asarray(ours.encode_image(images)), features.numpy()
    pairs = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in both]
    np.testing.assert_allclose(*pairs, atol=2e-5, rtol=0)
    ours.save_pretrained(tmp_path / "saved")
    saved, before = (load_file(d / "model.safetensors") for d in (tmp_path / "saved", whole))
    assert saved.keys() == before.keys()
    for name in before:
        if not name.startswith("vision_model."):
            np.testing.assert_array_equal(saved[name], before[name])
    assert known_shape(str(tmp_path / "tower"), text_source=str(whole)) == (ours.config, "")


def test_mismatched_towers_are_refused(whole, legacy, tmp_path):
    tower(tmp_path / "tower", hidden_size=48)
    for text_source, words in (
        (None, r"only an image tower.*model.text_source=google/siglip"),
        (whole, "hidden_size is 48, not 24"),
        (legacy, "a different kind of model"),
    ):
        with pytest.raises(UserError, match=words):
            from_pretrained(tmp_path / "tower", text_source=text_source)
