"""How a training step would scale, on paper: from the bytes of its collectives and data sheets.

Nothing here is measured. Letters: b images a device, n devices, B bytes, P parameters.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.collectives import Collective
from magmax_jax.models import CLIPConfig

KEPT = 16
"""Numbers of the width d that a step holds for every token of every block, in the computation's
dtype: 9 are kept for the gradient by name (`models.transformer.KEPT`); with copies, norms and one
block's attention XLA's compiler for TPU v5e plans 14 to 16 of them."""


@dataclass(frozen=True)
class Accelerator:
    """From data sheets; bytes a second are those of one device in one direction.

    Attributes:
      peak: floating-point operations a second, dense bfloat16.
      memory: bytes.
      node: devices that the fast links join.
      near: over the fast links.
      far: between nodes, None where there is one node.
      compiler: its `device_kind`, for which programs may have been compiled.
      torus: fewer devices than this have half of `near`, for want of links around; 0 for none.
    """

    name: str
    peak: float
    memory: float
    node: int
    near: float
    far: float | None = None
    torus: int = 0
    compiler: str = ""

    def __str__(self) -> str:
        links = f"{self.near / 1e9:g} GB/s each way a device"
        if self.torus:
            links += f", half of them in slices of fewer than {self.torus}"
        if self.far is not None:
            links += f" within {self.node}, {self.far / 1e9:g} GB/s between them"
        return (
            f"{self.peak / 1e12:g} TFLOP/s in bfloat16, {self.memory / 1e9:.1f} GB of memory, "
            f"{links}"
        )


ACCELERATORS = (
    Accelerator("H200", 989e12, 141e9, node=8, near=450e9, far=50e9, compiler="NVIDIA H200"),
    Accelerator(
        "TPU v5e", 197e12, 15.75 * 2**30, node=256, near=200e9, torus=256, compiler="TPU v5 lite"
    ),
)
"""NVIDIA's H200: NVLink 900 GB/s in both directions together, and a 400 Gb/s InfiniBand adapter for
each GPU. Google's TPU v5e: four links of 400 Gb/s each way a chip, in a torus of 16 x 16."""


@dataclass(frozen=True)
class Assumptions:
    """What no data sheet says.

    Attributes:
      mfu: share of the peak that a device reaches by itself.
      reached: share of the links' bytes a second.
      latency: seconds that a collective takes for each doubling of its devices.
    """

    mfu: float = 0.5
    reached: float = 0.8
    latency: float = 10e-6

    def __str__(self) -> str:
        return (
            f"a device by itself reaches {self.mfu:.0%} of its peak; links carry "
            f"{self.reached:.0%} of their bytes a second, by rings; a collective takes "
            f"{1e6 * self.latency:g} us for each doubling of its devices; a step computes 3 "
            "forward passes; blocks' hidden: what each block moves goes on beside the computation "
            "of the same pass, and what is moved once does not; memory holds float32 parameters, "
            f"gradients and Adam's moments, and {KEPT} d bfloat16 numbers a token and block; "
            "gradients and gathered parameters move in bfloat16; images are there in time"
        )


class Prediction(NamedTuple):
    """Of one step.

    Attributes:
      compute: seconds.
      communication: seconds of all collectives, one after another.
      exposed: seconds of them that no computation hides, if those within a pass over the blocks run
        beside it.
      nbytes: of memory that a device needs.
      fits: whether it has them, with a twentieth to spare.
    """

    compute: float
    communication: float
    exposed: float
    nbytes: float
    fits: bool

    @property
    def efficiency(self) -> tuple[float, float]:
        """Images a second over n times those of one device: nothing hidden, as much as can be."""
        return tuple(
            self.compute / (self.compute + waiting)
            for waiting in (self.communication, self.exposed)
        )


def compute_seconds(
    config: CLIPConfig, b: int, accelerator: Accelerator, assumed: Assumptions
) -> float:
    """3 forward passes (the gradient is two of them) over MFU times peak."""
    return 3 * config.forward_flops() * b / (assumed.mfu * accelerator.peak)


def collective_seconds(one: Collective, accelerator: Accelerator, assumed: Assumptions) -> float:
    """Of one execution, by rings: within nodes of m devices, and between k nodes, n = m k.

        p (m - 1) / m B / near + p (k - 1) / k (B / m) / far + latency ceil(log2 n)

    p is 2 for an all-reduce, else 1. Between nodes each device passes on its m-th of the bytes by
    its own link, as NCCL's rings over all adapters do.
    """
    n = one.group
    if n == 1:
        return 0.0
    near = accelerator.near / (2 if n < accelerator.torus else 1) * assumed.reached
    latency = assumed.latency * math.ceil(math.log2(n))
    if one.kind.startswith("collective"):
        return one.nbytes / near + latency
    passes = 2 if one.kind == "all-reduce" else 1
    m = min(n, accelerator.node)
    k = -(-n // m)
    seconds = passes * (m - 1) / m * one.nbytes / near
    if k > 1:
        if accelerator.far is None:
            raise ValueError(f"{accelerator.name}: {n} devices are more than {accelerator.node}")
        seconds += passes * (k - 1) / k * one.nbytes / m / (accelerator.far * assumed.reached)
    return seconds + latency


def memory_bytes(config: CLIPConfig, b: int, parameters: int, pieces: int = 1) -> float:
    """16 P / pieces + 2 KEPT d tokens L b: float32 parameters, gradients and Adam's two moments,
    and bfloat16 activations."""
    tower = config.vision
    activations = 2 * KEPT * tower.width * (tower.grid**2 + 1) * tower.layers * b
    return 16 * parameters / pieces + activations


def among(found: Sequence[Collective], n: int) -> list[Collective]:
    """Collectives of a program in which all take part, had it been compiled for n devices.

    Bytes of gradients and of gathered parameters do not depend on n.
    """
    return [dataclasses.replace(one, group=n) for one in found]


def as_bfloat16(found: Sequence[Collective]) -> list[Collective]:
    """What accelerators move of a bfloat16 step that was compiled for a CPU.

    There all-reduces and all-gathers are widened to float32; the program asks for bfloat16. The few
    gradients that are float32 everywhere are halved with the rest: 0.2 % of ViT-B/16's bytes.
    """
    return [
        dataclasses.replace(one, nbytes=one.nbytes // 2)
        if one.kind == "all-gather" or (one.kind == "all-reduce" and one.phase == "backward")
        else one
        for one in found
    ]


def predict(
    config: CLIPConfig,
    b: int,
    parameters: int,
    found: Sequence[Collective],
    accelerator: Accelerator,
    assumed: Assumptions,
    pieces: int = 1,
) -> Prediction:
    """Of a step with the collectives `found`, whose groups are those of the devices at hand.

    Collectives that are executed once follow on their pass's end, so nothing hides them; those of
    each block are hidden as far as their own pass takes: forward one third of the computation,
    backward two.

    Args:
      pieces: among how many devices parameters and what has their shape are divided.
    """
    compute = compute_seconds(config, b, accelerator, assumed)

    def seconds(collectives: Sequence[Collective]) -> float:
        return sum(one.times * collective_seconds(one, accelerator, assumed) for one in collectives)

    inner = [one for one in found if one.times > 1]
    exposed = seconds([one for one in found if one.times == 1])
    for phase, share in (("forward", 1 / 3), ("backward", 2 / 3), ("update", 0)):
        exposed += max(0.0, seconds([o for o in inner if o.phase == phase]) - share * compute)
    nbytes = memory_bytes(config, b, parameters, pieces)
    fits = nbytes < 0.95 * accelerator.memory
    return Prediction(compute, seconds(found), exposed, nbytes, fits)
