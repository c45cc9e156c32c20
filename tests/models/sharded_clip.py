"""A sharded CLIP merges, classifies and is evaluated; its test runs it in a separate process.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.models.sharded_clip DIRECTORY
"""

import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm

NAMES = ["cat", "dog", "oak tree"]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)


def split(leaf: Any, mesh: Mesh) -> jax.Array:
    """Sharded along the first axis that divides among the devices."""
    sides = [i for i, side in enumerate(leaf.shape) if side % mesh.size == 0]
    spec = PartitionSpec(*(None,) * sides[0], "x") if sides else PartitionSpec()
    return jax.device_put(leaf, NamedSharding(mesh, spec))


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
        for each in (found, within):
            assert each.labels == wanted.labels
            np.testing.assert_allclose(each.probabilities, wanted.probabilities, atol=1e-6)
    print(f"the same labels on {jax.device_count()} devices")


if __name__ == "__main__":
    main(sys.argv[1])
