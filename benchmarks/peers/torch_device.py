"""The device of torch's contenders: its name, memory and synchronisation; and one contender."""

import numpy as np
import torch

from benchmarks.serving import Facts, Prepared, resident_peak


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


def wait(device: torch.device) -> None:
    """Waits until all queued work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: torch.device) -> int:
    """Peak memory use of a GPU so far; on a CPU, that of this process."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else resident_peak()


def threshold(settings: Facts) -> Prepared:
    """The exact `k`-th smallest magnitude of the float32 numbers in `file`, a .npy."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numbers = torch.from_numpy(np.load(settings["file"])).to(device)

    def find() -> float:
        return numbers.abs().kthvalue(settings["k"]).values.item()  # item() waits for the device

    return Prepared({"device": device, "found": find()}, find)
