"""Merges of real checkpoints, loaded by transformers."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.main import main

torch = pytest.importorskip("torch")

from transformers import CLIPModel, CLIPProcessor, CLIPVisionModel  # noqa: E402


@pytest.fixture
def variants(real_clip, tmp_path) -> list[Path]:
    """theta_0 and two models whose image towers differ from its own."""
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


def test_transformers_loads_a_merged_clip_and_computes_with_it(variants, tmp_path):
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


def test_towers_saved_alone_are_merged_into_the_whole_model(real_clip, tmp_path):
    """transformers 5 saves a tower without CLIPModel's prefix unless it was read with it."""
    bare, whole = CLIPModel.from_pretrained(real_clip), CLIPVisionModel.from_pretrained(real_clip)
    towers = []
    for seed, tower in enumerate((bare.vision_model, whole), start=1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in tower.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
        tower.save_pretrained(tmp_path / f"tower-{seed}")
        towers.append({n: p.detach().float().numpy() for n, p in tower.named_parameters()})
    without, prefixed = (load_file(tmp_path / f"tower-{i}" / "model.safetensors") for i in (1, 2))
    assert {f"vision_model.{name}" for name in without} == set(prefixed)
    out = tmp_path / "merged"
    command = ["merge", "--pretrained", real_clip, "--rule", "average", "--scale", 1]
    command += ["--finetuned", tmp_path / "tower-1", tmp_path / "tower-2"]
    command += ["--include", "vision_model.*", "--output", out]
    assert main(list(map(str, command))) == 0

    found = dict(CLIPVisionModel.from_pretrained(out).named_parameters())
    for name, first in towers[0].items():
        mean = (first + towers[1][name]) / 2
        # Stored in half precision: 11 bits.
        np.testing.assert_allclose(found[name].detach().float().numpy(), mean, rtol=1e-3, atol=1e-6)
    base, merged = (load_file(path / "model.safetensors") for path in (real_clip, out))
    for name in base:
        same = name.startswith("vision_model.")
        assert np.array_equal(base[name], merged[name]) != same, name
