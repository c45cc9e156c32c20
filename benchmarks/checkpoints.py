"""The files that are merged: random models around one, always the same."""

import shutil
from pathlib import Path

import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

from benchmarks.peers.merge import WEIGHTS
from benchmarks.workloads import SIZES
from magmax_jax.models import CLIP, CLIPConfig
from magmax_jax.models.conversion import hf_shapes

SPREAD, CHANGE = 2e-2, 1e-3
"""Standard deviations of theta_0's entries and of what a task changes in them."""

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: CLIPConfig) -> Shapes:
    """Of every tensor that Hugging Face's `CLIPModel` saves, by name; allocates nothing."""
    clip = nnx.eval_shape(lambda: CLIP(config, rngs=nnx.Rngs(0)))
    return hf_shapes(config.entries, nnx.state(clip))


def make_checkpoints(work: Path, size: str, models: int) -> list[Path]:
    """Directories of theta_0 ... theta_N in float32, as transformers saves them.

    Args:
      work: what an earlier call left there is used again.
      models: N.
    """
    shapes = tensor_shapes(SIZES[size])
    paths = [work / size / f"theta_{t}" for t in range(models + 1)]
    missing = [t for t, path in enumerate(paths) if not path.exists()]
    for t in missing:
        theta = _normal(shapes, SPREAD if t == 0 else CHANGE, t)
        if t > 0:
            for name, value in load_file(paths[0] / WEIGHTS).items():
                theta[name] += value
        # Under another name until it is whole: what exists may be used again.
        partial = paths[t].with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(theta, partial / WEIGHTS, metadata={"format": "pt"})
        SIZES[size].to_hf().save_pretrained(partial)
        partial.rename(paths[t])
    return paths


def _normal(shapes: Shapes, deviation: float, t: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(t)
    return {
        name: np.asarray(random.standard_normal(shape, np.float32) * np.float32(deviation))
        for name, shape in shapes.items()
    }


def compare(ours: Path, theirs: Path) -> str:
    """How far two directories' weights are from each other; both are in memory.

    Zeros of different sign are different entries.
    """
    files = [list(path.glob("*.safetensors")) for path in (ours, theirs)]
    if [len(found) for found in files] != [1, 1]:
        return "not compared: not one file each"
    a, b = (load_file(file) for (file,) in files)
    if {n: (x.shape, x.dtype) for n, x in a.items()} != {
        n: (x.shape, x.dtype) for n, x in b.items()
    }:
        return "not compared: other tensors"
    differing = int(sum(np.count_nonzero(a[n].view(np.uint32) != b[n].view(np.uint32)) for n in a))
    if not differing:
        return "bit-identical"
    largest = np.max([np.abs(a[n] - b[n]).max() for n in a])
    where = f"{differing} entries"
    if differing >= 10:
        where = f"{100 * differing / sum(x.size for x in a.values()):.2g} % of entries"
    return f"differs by up to {largest:.1e}, in {where}"
