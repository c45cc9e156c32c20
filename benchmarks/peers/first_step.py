"""The first training step in torch, eager, of the same image tower (see `benchmarks.first_step`).

Parts have the same names; nothing is traced or compiled.
"""

import json
import sys
import time

from benchmarks.first_step import tell

PARTS = ("interpreter", "imports", "model, batch and optimizer", "first step")


def main() -> None:
    """Settings are JSON in argv: `start`, `answer`, `batch_size`, `dtype`, and `config`, the fields
    of transformers' `CLIPVisionConfig`."""
    settings = json.loads(sys.argv[1])
    ends = [time.monotonic()]

    import torch

    from benchmarks.peers import torch_device
    from benchmarks.peers.train_torch import Way, make_step, make_tower, noise

    ends.append(time.monotonic())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reduced = settings["dtype"] == "bfloat16"
    # JAX rounds factors of float32 products to TF32 on a GPU.
    way = Way(autocast=reduced, tf32=device.type == "cuda" and not reduced)
    with device:
        tower = make_tower(settings["config"])
        head, pixels, labels = noise(tower, settings["batch_size"])
    step = make_step(tower, head, way)
    ends.append(time.monotonic())
    step(pixels, labels)
    torch_device.wait(device)
    ends.append(time.monotonic())
    tell(settings, PARTS, ends, torch_device.name(device))


if __name__ == "__main__":
    main()
