"""A merge of real checkpoints, in the hands of those for whom it is made: transformers."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.main import main

torch = pytest.importorskip("torch")

from transformers import CLIPModel, CLIPProcessor  # noqa: E402


@pytest.fixture
def variants(real_clip, tmp_path) -> list[Path]:
    """theta_0 and two models whose image towers differ from it."""
    theta_0 = load_file(real_clip / "model.safetensors")
    made = [real_clip]
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        theta = {
            name: (tensor + 0.02 * random.normal(size=tensor.shape) * np.std(tensor)).astype(
                tensor.dtype
            )
            if name.startswith("vision_model.encoder")
            else tensor
            for name, tensor in theta_0.items()
        }
        directory = tmp_path / f"theta_{seed}"
        directory.mkdir()
        save_file(theta, directory / "model.safetensors")
        made.append(directory)
    return made


def test_it_loads_a_merged_clip_and_computes_with_it(variants, tmp_path):
    theta_0, *models = variants
    out = tmp_path / "merged"
    command = ["merge", "--pretrained", theta_0, "--finetuned", *models, "--output", out]
    assert main(list(map(str, command))) == 0

    model, processor = CLIPModel.from_pretrained(out).eval(), CLIPProcessor.from_pretrained(out)
    found = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    base, first, second = (load_file(path / "model.safetensors") for path in variants)
    for name, tensor in base.items():
        taus = [np.float32(theta[name]) - np.float32(tensor) for theta in (first, second)]
        tau = np.where(np.abs(taus[1]) >= np.abs(taus[0]), taus[1], taus[0])
        expected = (np.float32(tensor) + np.float32(0.5) * tau).astype(tensor.dtype)
        np.testing.assert_array_equal(found[name], expected, err_msg=name)

    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    inputs = processor(text=["a cat", "a dog"], images=[image], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model.float()(**inputs).logits_per_image
    assert logits.shape == (1, 2) and torch.isfinite(logits).all()
