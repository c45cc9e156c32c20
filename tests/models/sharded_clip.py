"""A sharded CLIP encodes, merges, classifies and is evaluated; its test starts this program.

export NPROC=32 XLA_FLAGS=--xla_force_host_platform_device_count=4
python -m tests.models.sharded_clip DIRECTORY
"""

import contextlib
import itertools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm
from magmax_jax import models

NAMES = ["cat", "dog", "oak tree"]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)


def split(leaf: Any, mesh: Mesh) -> jax.Array:
    """Sharded along the first axis that divides among the devices."""
    sides = [i for i, side in enumerate(leaf.shape) if side % mesh.size == 0]
    spec = PartitionSpec(*(None,) * sides[0], "x") if sides else PartitionSpec()
    return jax.device_put(leaf, NamedSharding(mesh, spec))


def check_features(model: Any, pieces: Any, mesh: Mesh) -> None:
    """Features, logits, gradients on a mesh of Explicit axes: batches whole and in shards."""
    side = model.config.vision.image_size
    random = np.random.default_rng(0)
    pixels = random.normal(size=(4, side, side, 3)).astype(np.float32)
    ids = np.repeat(model.tokenize(NAMES[:2]), 2, axis=0)
    gradient = nnx.grad(lambda model, pixels: jnp.square(model.encode_image(pixels)).sum())

    def classes(model: Any, pixels: Any, ids: Any) -> jax.Array:
        features = models.image_features(*model.image_tower(jnp.float32), pixels)
        return features @ models.zero_shot_head(model, NAMES, ["a {}.", "one {}."], batch_size=4)

    tried = {
        "image": (lambda model, pixels, ids: model.encode_image(pixels), True),
        "classes": (classes, True),
        "text": (lambda model, pixels, ids: model.encode_text(ids=ids), True),
        "logits": (lambda model, pixels, ids: model(pixels, ids), True),
        "gradient": (lambda model, pixels, ids: gradient(model, pixels), False),
    }
    rows = NamedSharding(mesh, PartitionSpec("x"))
    batches = [(pixels, ids), (jax.device_put(pixels, rows), jax.device_put(ids, rows))]
    for name, (function, of_rows) in tried.items():
        wanted = jax.tree.leaves(function(model, pixels, ids))
        for batch, compiled, within in itertools.product(batches, (False, True), (False, True)):
            if not of_rows and not compiled and not within:
                continue  # JAX itself wants set_mesh for gradients outside jit
            run = jax.jit(function) if compiled else function
            with jax.set_mesh(mesh) if within else contextlib.nullcontext():
                found = jax.tree.leaves(run(pieces, *batch))
            for one, like in zip(found, wanted, strict=True):
                size = float(np.abs(like).max())
                np.testing.assert_allclose(one, like, rtol=0, atol=1e-5 * size, err_msg=name)
            if of_rows and batch is batches[1]:
                assert found[0].sharding.is_equivalent_to(rows, 2), (name, found[0].sharding)


def main(directory: str) -> None:
    model = mm.CLIP.from_pretrained(directory)
    wanted = model.classify(PICTURES, NAMES)
    test = mm.Source(PICTURES, [0, 1, 2], NAMES)
    rows = mm.evaluate(model, test=test, progress=False)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((jax.device_count(),), ("x",), (kind,))
        pieces = jax.tree.map(lambda leaf, mesh=mesh: split(leaf, mesh), model)
        found = mm.merge(pieces, [pieces]).classify(PICTURES, NAMES)
        with jax.set_mesh(mesh):
            within = pieces.classify(PICTURES, NAMES)
            assert mm.evaluate(pieces, test=test, progress=False) == rows
        if kind == AxisType.Explicit:
            check_features(model, pieces, mesh)
        for each in (found, within):
            assert each.labels == wanted.labels
            np.testing.assert_allclose(each.probabilities, wanted.probabilities, atol=1e-6)
    print(f"the same labels on {jax.device_count()} devices")


if __name__ == "__main__":
    main(sys.argv[1])
