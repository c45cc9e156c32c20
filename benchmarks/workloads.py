"""The timed work: CLIPs with random weights, batches of noise, the library's training step.

Speed does not depend on the values, as long as none is zero, infinite or denormal.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Batch, Preprocessing, Source
from magmax_jax.models import CLIP, CLIPConfig, TextConfig, VisionConfig
from magmax_jax.scenarios import Head, Scenario, Task
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training import Objective, Trainer, make_trainer

CLASSES = 100
SPREAD = 0.02
"""Standard deviation of parameters, around one for norm scales and around zero otherwise."""


def _tower(width: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"width": width, "layers": layers, "heads": heads, "mlp": 4 * width}
    return sizes | {"activation": "quick_gelu", "epsilon": 1e-5}


def _clip(vision: dict, side: int, patch: int, text: dict, words: int, projection: int):
    ends = {"vocabulary": words, "bos": words - 2, "eos": words - 1, "context": 77}
    return CLIPConfig(
        VisionConfig(**vision, image_size=side, patch_size=patch),
        TextConfig(**text, **ends),
        projection,
    )


SIZES = {
    "vit-l14": _clip(_tower(1024, 24, 16), 224, 14, _tower(768, 12, 12), 49408, 768),
    "vit-b16": _clip(_tower(768, 12, 12), 224, 16, _tower(512, 12, 8), 49408, 512),
    "small": _clip(_tower(256, 4, 4), 96, 16, _tower(192, 4, 4), 8000, 128),
    "tiny": _clip(_tower(64, 2, 2), 32, 8, _tower(48, 2, 2), 400, 32),
}
"""CLIP ViT-L/14 and ViT-B/16, 427.6 and 149.6 M parameters; two with 6.8 and 0.2 M for trials."""


def image_tower(
    config: CLIPConfig, dtype: str, seed: int = 0, **options: Any
) -> tuple[nnx.GraphDef, nnx.State]:
    """The image tower and random float32 parameters; `options` are those of `abstract_tower`."""
    random = np.random.default_rng(seed)

    def numbers(path: tuple[str, ...], leaf: nnx.Param) -> nnx.Param:
        noise = SPREAD * random.standard_normal(leaf.shape, np.float32)
        return leaf.replace(jnp.asarray(noise + (path[-1] == "scale"), jnp.float32))

    graphdef, shapes = abstract_tower(config, dtype, **options)
    return graphdef, nnx.map_state(numbers, shapes)


def abstract_tower(
    config: CLIPConfig, dtype: str, **options: Any
) -> tuple[nnx.GraphDef, nnx.State]:
    """The image tower and its parameters' shapes; `options` are those of `CLIP.image_tower`."""
    clip = nnx.eval_shape(lambda: CLIP(config, rngs=nnx.Rngs(0)))
    return clip.image_tower(dtype, **options)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def tower_config(config: CLIPConfig) -> dict[str, Any]:
    """An image tower as the fields of transformers' `CLIPVisionConfig`."""
    # Not `CLIPConfig.to_hf`, which imports transformers and thus torch.
    vision = config.vision
    return {
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "projection_dim": config.projection,
        "hidden_act": vision.activation,
        "layer_norm_eps": vision.epsilon,
    }


def images(batch_size: int, side: int, seed: int = 0) -> Batch:
    """Noise on the host: uint8 (b, side, side, 3), each row a sample."""
    random = np.random.default_rng(seed)
    return Batch(
        image=random.integers(0, 256, (batch_size, side, side, 3), np.uint8),
        box=np.tile(np.array([0, 0, side, side], np.int32), (batch_size, 1)),
        label=random.integers(0, CLASSES, batch_size).astype(np.int32),
        index=np.arange(batch_size, dtype=np.int32),
        mask=np.ones(batch_size, bool),
    )


def objective(projection: int) -> Objective:
    """A task of all classes with a head of random directions, and one step of warm-up."""
    directions = jax.random.normal(jax.random.key(0), (projection, CLASSES))
    return Objective(
        head=directions / jnp.linalg.norm(directions, axis=0),
        classes=jnp.ones(CLASSES, bool),
        heads=jnp.zeros(CLASSES, jnp.int32),
        warmup=jnp.int32(1),
        steps=jnp.int32(1000),
        key=jax.random.key(0),
    )


def scenario(images: np.ndarray, labels: np.ndarray, classes: Sequence[np.ndarray]) -> Scenario:
    """Tasks with test images and no training images.

    Args:
      images: uint8 (n, height, width, 3).
      labels: int32 (n,).
      classes: of each task.
    """
    names = tuple(f"class {i}" for i in range(sum(map(len, classes))))
    source = Source(images, labels, names, image_shape=images.shape[1:3])
    tasks = tuple(
        Task(f"task {i}", np.zeros(0, np.int64), np.flatnonzero(np.isin(labels, own)), own)
        for i, own in enumerate(classes, start=1)
    )
    return Scenario("noise", source, source, tasks, (Head(names, ("{}",)),))


def training(
    config: CLIPConfig,
    batch_size: int,
    dtype: str,
    train: TrainConfig | None = None,
    layout: Layout | None = None,
    tower: tuple[nnx.GraphDef, nnx.State] | None = None,
) -> tuple[Trainer, nnx.State, Batch, Objective]:
    """The arguments of the library's own step, with a batch of noise of the tower's input size.

    Args:
      train: the recipe; the paper's by default.
      tower: graph and parameters; `image_tower` of the configuration by default.
      layout: placement of everything; one device by default.
    """
    layout = layout or one_device()
    side = config.vision.image_size
    graphdef, theta = tower or image_tower(config, dtype, whole=layout.whole)
    trainer = make_trainer(graphdef, Preprocessing(side), train or TrainConfig(), layout=layout)
    return (
        trainer,
        layout.params(theta),
        trainer.place(images(batch_size, side)),
        layout.replicate(objective(config.projection)),
    )
