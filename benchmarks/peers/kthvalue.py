"""torch's exact k-th smallest magnitude of the float32 numbers in a .npy file, as a contender.

On the GPU where torch has one.
"""

import numpy as np
import torch

from benchmarks.turns import Facts, Prepared, serve


def prepare(settings: Facts) -> Prepared:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numbers = torch.from_numpy(np.load(settings["file"])).to(device)

    def find() -> float:
        """`item` waits for the device."""
        return numbers.abs().kthvalue(settings["k"]).values.item()

    return Prepared({"device": device, "found": find()}, find)


if __name__ == "__main__":
    serve(prepare)
