"""The device of torch's contenders: its name, its memory, and waiting for it; and one contender."""

import numpy as np
import torch

from benchmarks.serving import Facts, Prepared, resident_peak


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


def wait(device: torch.device) -> None:
    """Until all that was asked of it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: torch.device) -> int:
    """Most of a GPU's memory that was in use so far; on a CPU this process's."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else resident_peak()


def threshold(settings: Facts) -> Prepared:
    """The exact `k`-th smallest magnitude of the float32 numbers in `file`, a .npy."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numbers = torch.from_numpy(np.load(settings["file"])).to(device)

    def find() -> float:
        return numbers.abs().kthvalue(settings["k"]).values.item()  # which waits for the device

    return Prepared({"device": device, "found": find()}, find)
