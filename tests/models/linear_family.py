"""A model family built from public names only: two random linear maps."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

from magmax_jax.errors import UserError
from magmax_jax.models import ModelFamily, Place
from magmax_jax.models.entries import LINEAR, one

WIDTH = 24


@dataclass(frozen=True)
class LinearConfig:
    image_size: int
    model_type: ClassVar[str] = "linear"
    image_entries: ClassVar = [one("kernel", "image.weight", LINEAR), one("bias", "image.bias")]

    def at_size(self, image_size):
        if image_size != self.image_size:
            raise UserError(f"image_size {image_size} is not this model's: use {self.image_size}")
        return replace(self, image_size=image_size)

    def place_of(self, path):
        return Place("head", path, stacked=False)

    def forward_flops(self):
        return 2.0 * 3 * self.image_size**2 * WIDTH


class ImageTower(nnx.Linear):
    def __call__(self, pixels):
        return super().__call__(pixels.reshape(len(pixels), -1))


class TextTower(nnx.Embed):
    def __call__(self, ids):
        return super().__call__(ids).mean(axis=1)


class LinearModel(nnx.Module):
    def __init__(self, config, rngs, dtype="float32"):
        self.config, self.preprocessor = config, None
        self.image = ImageTower(3 * config.image_size**2, WIDTH, dtype=jnp.dtype(dtype), rngs=rngs)
        self.text = TextTower(256, WIDTH, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(3))

    def encode_image(self, pixels):
        return self.image(pixels)

    def encode_text(self, ids):
        return self.text(ids)

    def tokenize(self, texts):
        return np.array([list(text.encode().ljust(64)) for text in texts], np.int32)

    def text_tower(self):
        return nnx.split(self.text)

    def image_tower(self, dtype, remat=False, whole=None):
        other = nnx.eval_shape(lambda: LinearModel(self.config, nnx.Rngs(0), dtype))
        return nnx.graphdef(other.image), jax.tree.map(lambda leaf: leaf, nnx.state(self.image))

    def update_image_tower(self, params):
        nnx.update(self.image, params)

    def save_pretrained(self, directory, dtype="float32", card=None):
        if dtype != "float32":
            raise UserError(f"{directory}: linear models are saved in float32 alone")
        Path(directory).mkdir()
        settings = {"model_type": "linear", "image_size": self.config.image_size}
        (Path(directory) / "config.json").write_text(json.dumps(settings))
        if card is not None:
            (Path(directory) / "README.md").write_text(card)
        tensors = {".".join(p): np.asarray(x[...]) for p, x in nnx.to_flat_state(nnx.state(self))}
        save_file(tensors, Path(directory) / "model.safetensors")


def shape_of(directory):
    return LinearConfig(json.loads((directory / "config.json").read_text())["image_size"])


def load(directory, image_size, dtype):
    config = shape_of(directory)
    model = LinearModel(config.at_size(image_size or config.image_size), nnx.Rngs(0), dtype)
    tensors = load_file(directory / "model.safetensors")
    leaves = nnx.to_flat_state(nnx.state(model))
    state = [(p, leaf.replace(jnp.asarray(tensors[".".join(p)]))) for p, leaf in leaves]
    nnx.update(model, nnx.from_flat_state(state))
    return model


FAMILY = ModelFamily(
    shape_of, load, LinearModel, published={"someone/linear-8": LinearConfig(image_size=8)}
)
