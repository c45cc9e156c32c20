"""The first training step in torch, eager, of the same image tower (see `benchmarks.first_step`).

Parts have the same names; nothing is traced or compiled.
"""

import json
import sys
import time
from pathlib import Path

PARTS = ("interpreter", "imports", "model, batch and optimizer", "first step")


def main() -> None:
    """Settings are JSON in argv: `start`, `answer`, `batch_size`, `dtype`, and `config`, the fields
    of transformers' `CLIPVisionConfig`."""
    settings = json.loads(sys.argv[1])
    ends = [time.monotonic()]

    import torch

    from benchmarks.peers.train_torch import CLASSES, Way, make_step, make_tower

    ends.append(time.monotonic())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reduced = settings["dtype"] == "bfloat16"
    # JAX rounds factors of float32 products to TF32 on a GPU.
    way = Way(autocast=reduced, tf32=device.type == "cuda" and not reduced)
    with device:
        tower = make_tower(settings["config"])
        b, side = settings["batch_size"], tower.config.image_size
        head = torch.nn.functional.normalize(
            torch.randn(tower.config.projection_dim, CLASSES), dim=0
        )
        pixels, labels = torch.randn(b, 3, side, side), torch.randint(CLASSES, (b,))
    step = make_step(tower, head, way)
    ends.append(time.monotonic())
    step(pixels, labels)
    if device.type == "cuda":
        torch.cuda.synchronize()
    ends.append(time.monotonic())
    begun = [settings["start"], *ends[:-1]]
    parts = {name: end - start for name, start, end in zip(PARTS, begun, ends, strict=True)}
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    Path(settings["answer"]).write_text(json.dumps({"device": name, "parts": parts}))


if __name__ == "__main__":
    main()
