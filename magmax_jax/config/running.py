"""Devices that a run uses, and what it keeps on disk."""

from dataclasses import dataclass
from typing import Literal

from magmax_jax.config.checks import require


@dataclass(frozen=True)
class MeshConfig:
    """How work is divided among the devices of all processes."""

    data: int = -1
    """Number of full copies of the model (data parallelism); -1 uses all devices. Each batch is
    split over all devices in use."""
    fsdp: int = 1
    """Devices over which each copy's parameters and optimiser state are sharded, for models too
    large for one."""

    def __post_init__(self) -> None:
        require(
            self.data > 0 or self.data == -1,
            f"mesh.data is {self.data}: it must be positive, or -1 for all devices",
        )
        require(self.fsdp > 0, f"mesh.fsdp is {self.fsdp}: it must be positive")


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps on disk, to resume after an interruption and for later analysis."""

    every: int | None = None
    """Also save every N steps; not set: save after each task only."""
    keep_tasks: bool = False
    """Keep every theta_t (in tasks/), not only the last; studies need them. Also keeps Adam's
    second moments with each, if a merge (such as adam_weighted) needs them."""
    task_bits: Literal[8, 4, 3] | None = None
    """Quantise the stored task vectors, in tasks/ and in the state of merges that collect all of
    them (such as ties), to this many bits; not set: exact. 8 bits take less than a quarter of the
    space. Training and streaming merges, such as max_magnitude, stay exact."""

    def __post_init__(self) -> None:
        every = self.every
        require(every is None or every > 0, f"checkpoint.every is {every}: it must be positive")
