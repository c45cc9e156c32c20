"""The device of torch's contenders: its name, its memory, and waiting for it."""

import torch

from benchmarks.turns import resident_peak


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


def wait(device: torch.device) -> None:
    """Until all that was asked of it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: torch.device) -> int:
    """Of a GPU's memory the most that was in use so far, on a CPU of this process's."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else resident_peak()
