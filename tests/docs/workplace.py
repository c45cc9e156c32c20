"""A directory in which the pages' commands run: the models, images and runs that they name."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.main import main
from tests.docs.blocks import ROOT

TINY = ROOT / "experiments" / "assets" / "tiny-clip"
MODELS = ("base", "january", "february", "march")
"""`base` is the pretrained model; the others are fine-tuned from it, as it were."""

RECIPE = """merge_method: ties
base_model: base
models:
  - model: january
    parameters: {density: 0.5, weight: 1.0}
  - model: february
    parameters: {density: 0.5, weight: 0.5}
"""

SMALL = "--train.epochs 1 --scenario.limit-per-class 12 --train.batch-size 8 --scenario.num-tasks 2"
MERGES = "--merges max_magnitude average --merging.scales 0.5,0.7"
"""The quickstart, small enough for a test: two tasks, an epoch each."""


def build(place: Path) -> None:
    """Makes everything in a new directory."""
    place.mkdir()
    for name in ("experiments", "examples"):
        (place / name).symlink_to(ROOT / name)
    for number, name in enumerate(MODELS):
        fine_tuned(place / name, number)
    for model, name in zip(MODELS, ("zeroshot", "finetuned_0", "finetuned_1"), strict=False):
        shutil.copy(place / model / "model.safetensors", place / f"{name}.safetensors")
    (place / "recipe.yml").write_text(RECIPE)
    shapes(place / "shapes")
    run = ("run", "quickstart", *SMALL.split(), *MERGES.split())
    assert main([*run, "--out", str(place / "runs" / "quickstart")]) == 0


def fine_tuned(directory: Path, seed: int) -> None:
    """A copy of the bundled CLIP whose image tower differs a little; seed 0 is the CLIP itself."""
    shutil.copytree(TINY, directory)
    file = directory / "model.safetensors"
    random, tensors = np.random.default_rng(seed), load_file(file)
    for name, tensor in tensors.items():
        if seed and name.startswith("vision_model.") and tensor.ndim:
            noise = 0.01 * random.standard_normal(tensor.shape, np.float32)
            tensors[name] = (tensor + noise).astype(tensor.dtype)
    save_file(tensors, file, {"format": "pt"})


def shapes(folder: Path, each: int = 10) -> None:
    """Images of two classes in one folder each."""
    random = np.random.default_rng(0)
    for name in ("circle", "square"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            image = Image.new("RGB", (32, 32), "white")
            left, top = random.integers(2, 10, 2).tolist()
            draw = ImageDraw.Draw(image)
            shape = draw.ellipse if name == "circle" else draw.rectangle
            shape((left, top, left + 18, top + 18), fill="black")
            image.save(folder / name / f"{number}.png")
