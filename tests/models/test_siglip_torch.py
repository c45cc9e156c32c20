"""SigLIP against transformers: its torch model, zero-shot pipeline, and loading of our files."""

import jax
import numpy as np
import pytest
from PIL import Image

from magmax_jax import models
from magmax_jax.models import SigLIP, normalise
from tests.models.siglip_weights import CONFIGS, SIZES, TOKENIZERS, ids, shapes, weights, write
from tests.models.weights import pixels

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    AutoProcessor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ZeroShotImageClassificationPipeline,
)

COSINE = 2e-5
"""Tolerance for normalised features and for logits over exp(logit_scale)."""
NAMES = ["cat", "dog", "Oak Tree"]


def _torch(directory, images, ids):
    """Image and text features and logits of a `SiglipModel`; interpolates for other sizes."""
    reference = SiglipModel.from_pretrained(directory, dtype=torch.float32).eval()
    images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    resized = images.shape[-1] != reference.config.vision_config.image_size
    with torch.no_grad():
        found = reference(
            pixel_values=images,
            input_ids=torch.from_numpy(np.asarray(ids, np.int64)),
            interpolate_pos_encoding=resized,
        )
    return [x.numpy() for x in (found.image_embeds, found.text_embeds, found.logits_per_image)]


@jax.jit
def _ours(model: SigLIP, images, ids):
    features = normalise(model.encode_image(images)), normalise(model.encode_text(ids))
    return *features, model(images, ids)


def _compare(directory, size, ids):
    images = pixels(size)
    model = models.from_pretrained(directory, image_size=size)
    with jax.default_matmul_precision("highest"):
        found = _ours(model, images, ids)
    scale = float(np.exp(model.logit_scale[...]))
    for ours, expected, bound in zip(
        found, _torch(directory, images, ids), (COSINE, COSINE, COSINE * scale), strict=True
    ):
        print(f"{np.abs(ours - expected).max():.1e} of {bound:.1e}")
        assert np.abs(ours - expected).max() <= bound


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_features_and_logits(name, resized, dtype, tmp_path):
    _compare(write(tmp_path, name, dtype), SIZES[name][resized], ids(name))


@pytest.mark.parametrize("vocabulary", [32000, 256000])
def test_random_models_in_bfloat16(vocabulary, tmp_path):
    torch.manual_seed(0)
    tower = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3}
    tower["num_attention_heads"] = 6
    config = SiglipConfig(
        text_config=tower | {"vocab_size": vocabulary},
        vision_config=tower | {"image_size": 64},
    )
    reference = SiglipModel(config)
    with torch.no_grad():  # PyTorch initialises biases to zero, which would hide a missing one
        for name, parameter in reference.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
        reference.logit_scale.fill_(4.7)
    reference.to(torch.bfloat16).save_pretrained(tmp_path)
    _compare(tmp_path, 64, np.random.RandomState(0).randint(0, vocabulary, (2, 64)))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_small_weights_are_a_whole_siglip(name):
    reference = SiglipModel(SiglipConfig.from_dict(CONFIGS[name]))
    found = {k: tuple(v.shape) for k, v in reference.state_dict().items()}
    assert found == shapes(CONFIGS[name])
    assert found == {k: v.shape for k, v in weights(CONFIGS[name]).items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_what_we_save(name, tmp_path):
    write(tmp_path / "source", name)
    model = models.from_pretrained(tmp_path / "source", image_size=SIZES[name][1])
    model.save_pretrained(tmp_path / "saved")
    first = SiglipModel.from_pretrained(tmp_path / "source")
    second, report = SiglipModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    for key, value in first.state_dict().items():
        if "position_embedding" not in key:
            assert torch.equal(value, second.state_dict()[key]), key
    _compare(tmp_path / "saved", SIZES[name][1], ids(name))
    processor = AutoProcessor.from_pretrained(tmp_path / "saved")
    texts = [f"a photo of a {label.lower()}" for label in NAMES]
    context = CONFIGS[name]["text_config"]["max_position_embeddings"]
    found = processor(text=texts, padding="max_length", max_length=context)["input_ids"]
    np.testing.assert_array_equal(models.tokenize(model, texts), found)
    images = processor(images=[Image.new("RGB", (50, 40))], return_tensors="np")["pixel_values"]
    assert images.shape == (1, 3, SIZES[name][1], SIZES[name][1])


def test_probabilities_match_the_zero_shot_pipeline(tmp_path):
    directory = write(tmp_path, "siglip2")  # needs a context of 64 tokens, the pipeline's
    model = models.from_pretrained(directory)
    side = SIZES["siglip2"][0]
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(3)
    ]
    pipeline = ZeroShotImageClassificationPipeline(
        model=SiglipModel.from_pretrained(directory),
        tokenizer=TOKENIZERS["siglip2"](),
        image_processor=SiglipImageProcessorPil(size={"height": side, "width": side}),
    )
    labels = [label.lower() for label in NAMES]
    found = model.classify(pictures, labels, "this is a photo of {}.")
    for row, image in zip(found.probabilities, pictures, strict=True):
        expected = pipeline(
            image, candidate_labels=labels, hypothesis_template="this is a photo of {}."
        )
        scores = {entry["label"]: entry["score"] for entry in expected}
        np.testing.assert_allclose(row, [scores[label] for label in labels], rtol=0, atol=2e-5)
    sums = found.probabilities.sum(axis=1)
    assert (np.abs(sums - 1) > 1e-3).all()
