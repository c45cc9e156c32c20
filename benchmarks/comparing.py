"""How far two merged models are from each other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open


@dataclass(frozen=True)
class Difference:
    """Over all tensors of two models of the same names and shapes."""

    largest: float
    """The largest |a - b|."""
    differing: int
    """How many entries differ."""
    entries: int

    def __str__(self) -> str:
        if not self.differing:
            return "bit-identical"
        where = f"{100 * self.differing / self.entries:.2g} % of entries"
        if self.differing < 10:
            where = "1 entry" if self.differing == 1 else f"{self.differing} entries"
        return f"differs by up to {self.largest:.1e}, in {where}"


def compare(ours: Path, theirs: Path) -> Difference | str:
    """The difference of two directories' weights, or what makes them models of different kinds.

    Tensor by tensor: two tensors are in memory. Zeros of different sign are different entries.
    """
    files = [list(path.glob("*.safetensors")) for path in (ours, theirs)]
    if [len(found) for found in files] != [1, 1]:
        return "not compared: not one file each"
    (a_file,), (b_file,) = files
    largest, differing, entries = 0.0, 0, 0
    with safe_open(a_file, framework="np") as a, safe_open(b_file, framework="np") as b:
        if missing := set(a.keys()) ^ set(b.keys()):
            return f"{len(missing)} tensors are in one model only, {min(missing)} first"
        for name in a.keys():  # noqa: SIM118 - no mapping
            x, y = a.get_tensor(name), b.get_tensor(name)
            if (x.shape, x.dtype) != (y.shape, y.dtype):
                return f"{name} is {x.dtype} {x.shape}, not {y.dtype} {y.shape}"
            different = np.count_nonzero(x.view(np.uint32) != y.view(np.uint32))
            if different:
                largest = np.maximum(largest, np.abs(x - y).max())
            differing, entries = differing + different, entries + x.size
    return Difference(float(largest), int(differing), entries)
