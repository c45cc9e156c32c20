"""The files that are merged: random models around one, the same for the same seed."""

import math
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.shapes import SIZES, Shapes

SPREAD, CHANGE = 2e-2, 1e-3
"""Standard deviations of theta_0's entries and of what a task changes in them."""


def make_checkpoints(work: Path, size: str, models: int, seed: int) -> list[Path]:
    """Directories of theta_0 ... theta_N in float32, as transformers saves them.

    Args:
      work: what an earlier call left there is used again.
      models: N.

    Raises:
      OSError: the disk has no room for them.
    """
    shapes = SIZES[size].shapes
    paths = [work / f"{size}-seed-{seed}" / f"theta_{t}" for t in range(models + 1)]
    missing = [t for t, path in enumerate(paths) if not path.exists()]
    needed = 4 * sum(map(math.prod, shapes.values())) * len(missing)
    work.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(work).free < needed:
        raise OSError(f"{work} has no room for {needed / 1e9:.1f} GB of checkpoints")
    for t in missing:
        theta = _normal(shapes, SPREAD if t == 0 else CHANGE, seed, t)
        if t > 0:
            for name, value in load_file(paths[0] / "model.safetensors").items():
                theta[name] += value
        # Under another name until it is whole: what exists may be used again.
        partial = paths[t].with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(theta, partial / "model.safetensors", metadata={"format": "pt"})
        SIZES[size].model.to_hf().save_pretrained(partial)
        partial.rename(paths[t])
    return paths


def _normal(shapes: Shapes, deviation: float, seed: int, t: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng([seed, t])
    return {
        name: np.asarray(random.standard_normal(shape, np.float32) * np.float32(deviation))
        for name, shape in shapes.items()
    }
