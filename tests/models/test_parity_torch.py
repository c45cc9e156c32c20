"""Parity with transformers' torch CLIP, from the bottom up, on identical inputs."""

import numpy as np
import pytest

from magmax_jax.models import CLIP
from tests.models.stages import stages, torch_stages
from tests.models.weights import CONFIGS, IDS, pixels, weights

torch = pytest.importorskip("torch")

from transformers import AutoTokenizer, CLIPConfig, CLIPModel  # noqa: E402

# Tolerances. Absolute for normalised features, and for logits over exp(logit_scale), which are
# cosines. Inner stages: relative to the stage's largest value, near 1000 in the real checkpoint,
# where one step of float32 is 6e-5.
COSINE = 2e-5
INNER = 2e-6


def _compare(directory, size, ids):
    reference = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
    model = CLIP.from_pretrained(directory, image_size=size)
    images = pixels(size)[:2]
    expected, ours = torch_stages(reference, images, ids), stages(model, images, ids)
    assert expected.keys() == ours.keys()
    scale = float(reference.logit_scale.detach().exp())
    for stage, value in expected.items():
        difference = np.abs(ours[stage] - value).max()
        if stage.endswith("features"):
            bound = COSINE
        elif stage == "logits":
            bound = COSINE * scale
        else:
            bound = INNER * np.abs(value).max()
        print(f"{stage} {difference:.2e} of {np.abs(value).max():.3g}")
        assert difference <= bound, stage


def test_random_vit_b16(tmp_path):
    torch.manual_seed(0)
    reference = CLIPModel(CLIPConfig(vision_config={"patch_size": 16}))
    with torch.no_grad():  # PyTorch initialises biases to zero, which would hide a missing one
        for name, parameter in reference.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
    reference.save_pretrained(tmp_path)
    del reference
    ids = np.array([[49406, 320, 1125, 539, 2368, 49407], [49406, 2368, 49407, 49407, 7, 9]])
    _compare(tmp_path, 224, ids)


@pytest.mark.parametrize("size", [224, 112])
def test_real_checkpoint(real_clip, size):
    tokenizer = AutoTokenizer.from_pretrained(real_clip)
    texts = ["a photo of a cat", "a sketch of an elephant in the snow."]
    _compare(real_clip, size, tokenizer(texts, padding=True, return_tensors="np")["input_ids"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_small_weights_are_a_whole_clip_model(name):
    reference = CLIPModel(CLIPConfig.from_dict(CONFIGS[name]))
    shapes = {k: tuple(v.shape) for k, v in reference.state_dict().items()}
    assert shapes == {k: v.shape for k, v in weights(CONFIGS[name]).items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_what_we_save(name, checkpoint, tmp_path):
    directory = checkpoint(name)
    CLIP.from_pretrained(directory).save_pretrained(tmp_path / "saved")
    first = CLIPModel.from_pretrained(directory).eval()
    second, report = CLIPModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    given = pixels(CONFIGS[name]["vision_config"]["image_size"]), IDS[name]
    expected, saved = torch_stages(first, *given), torch_stages(second.eval(), *given)
    np.testing.assert_array_equal(expected["logits"], saved["logits"])


def test_transformers_interpolates_to_the_saved_size(real_clip, tmp_path):
    CLIP.from_pretrained(real_clip, image_size=112).save_pretrained(tmp_path / "saved")
    images = pixels(112)[:1]
    ids = np.array([[49406, 320, 49407]])
    resized = torch_stages(CLIPModel.from_pretrained(tmp_path / "saved").eval(), images, ids)
    reference = CLIPModel.from_pretrained(real_clip, dtype=torch.float32).eval()
    interpolated = torch_stages(reference, images, ids)
    difference = np.abs(resized["vision.features"] - interpolated["vision.features"]).max()
    assert difference <= COSINE
