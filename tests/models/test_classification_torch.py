"""Classification and merged CLIPs against transformers: zero-shot pipeline and loading."""

from pathlib import Path

import jax
import numpy as np
import pytest
import sklearn
from PIL import Image

import magmax_jax as mm
from magmax_jax.models import CLIP
from tests.models.test_pytree import perturbed

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    CLIPImageProcessorPil,
    CLIPModel,
    ZeroShotImageClassificationPipeline,
)

PHOTOS = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
NAMES = ["temple", "flower", "street", "cat"]


def transformers_probabilities(directory: Path, images: list[Image.Image]) -> np.ndarray:
    """float32 (b, k), in the order of NAMES."""
    model = CLIPModel.from_pretrained(directory, dtype=torch.float32)
    pipeline = ZeroShotImageClassificationPipeline(
        model=model,
        tokenizer=CLIP.from_pretrained(directory).tokenizer,
        image_processor=CLIPImageProcessorPil.from_pretrained(directory),
    )
    found = pipeline(images, candidate_labels=NAMES, hypothesis_template="a photo of a {}.")
    scores = [{entry["label"]: entry["score"] for entry in image} for image in found]
    return np.array([[image[name] for name in NAMES] for image in scores], np.float32)


def photos() -> list[Image.Image]:
    """Photographs, whole and cropped: wide, tall and small, in colour and grey."""
    first, second = (Image.open(path).convert("RGB") for path in PHOTOS)
    parts = [first.crop((0, 0, 150, 400)), second.resize((90, 70)), first.convert("L")]
    return [first, second, *parts, second.resize((300, 224))]


def test_probabilities_match_the_zero_shot_pipeline(real_clip):
    expected = transformers_probabilities(real_clip, photos())
    found = CLIP.from_pretrained(real_clip).classify(photos(), NAMES)
    difference = np.abs(found.probabilities - expected).max()
    print(f"{difference:.2e}")
    assert difference <= 1e-5
    assert found.labels == [NAMES[i] for i in expected.argmax(axis=1)]


def test_transformers_classifies_with_a_merged_clip_as_we_do(real_clip, tmp_path):
    zero = CLIP.from_pretrained(real_clip)
    merged = mm.merge(zero, [perturbed(zero, 1), perturbed(zero, 2)])
    merged.save_pretrained(tmp_path / "merged")
    theirs = CLIPModel.from_pretrained(tmp_path / "merged").state_dict()
    ours = CLIP.from_pretrained(tmp_path / "merged")
    jax.tree.map(np.testing.assert_array_equal, ours, merged)
    scale = np.asarray(theirs["logit_scale"])
    np.testing.assert_array_equal(merged.logit_scale[...], scale)
    expected = transformers_probabilities(tmp_path / "merged", photos())
    found = merged.classify(photos(), NAMES)
    print(np.abs(found.probabilities - expected).max())
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-5)
