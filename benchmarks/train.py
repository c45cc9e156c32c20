"""One training step of CLIP's image tower, ours and torch's side by side.

python -m benchmarks.train --peers PYTHON --output train.md
"""

import functools
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import device, peak
from benchmarks.choosing import check_positive, matching
from benchmarks.entries import COLUMNS, Entry, finished, rows
from benchmarks.largest import largest
from benchmarks.limits import matmul_shapes
from benchmarks.machine import describe, peers_python, why_absent
from benchmarks.output import Output
from benchmarks.shapes import SIZES
from benchmarks.tables import facts, markdown
from benchmarks.trainers import PEER, Trainer, Work, torch_device, trainers
from benchmarks.turns import Contestant, take_turns
from magmax_jax.errors import UserError, exit_code


@dataclass(frozen=True)
class Settings:
    """Times a training step of every contender, in turns, and a table for each batch size."""

    size: Literal["vit-b16", "vit-l14", "small", "tiny"] = "vit-b16"
    """CLIP ViT-B/16 or ViT-L/14 at 224 px; the others are for trials."""
    batch_sizes: tuple[int | Literal["largest"], ...] = ()
    """Images; "largest" is what each has room for alone (default: 128 and largest; on a CPU 16)."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of the computation; parameters are float32 (default: bfloat16; on a CPU float32)."""
    repeats: int | None = None
    """Calls of every contender, whose median is told (default: 7; on a CPU 5)."""
    steps: int | None = None
    """In each call (default: 10; on a CPU 1)."""
    largest_from: int | None = None
    """Where the search for the largest batch begins, up or down (default: 128; on an accelerator
    whose batch sizes are the default ones 512)."""
    largest_at_most: int = 4096
    """Where it ends, unless memory does before. A CPU's memory should not be tried: set this."""
    compile_modes: tuple[Literal["default", "max-autotune-no-cudagraphs"], ...] = ("default",)
    """torch.compile's; each is a contender."""
    limit_sides: tuple[int, ...] = ()
    """Of the square products that are the limit (default: such as fill the device)."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of contenders' names."""
    output: Path | None = None
    """File for the tables; every single run goes into a .jsonl beside it."""


def fitted(settings: Settings, platform: str) -> Settings:
    """With the defaults of what computes, and what can be checked checked.

    Raises:
      UserError: a number is not positive, or the peers' python cannot be run.
    """
    cpu = platform == "cpu"
    sizes = settings.batch_sizes or ((16,) if cpu else (128, "largest"))
    check_positive(
        {
            "--batch-sizes": [size for size in sizes if size != "largest"],
            "--repeats": settings.repeats,
            "--steps": settings.steps,
            "--largest-from": settings.largest_from,
            "--largest-at-most": settings.largest_at_most,
            "--limit-sides": settings.limit_sides,
        }
    )
    begin = 128 if cpu or settings.batch_sizes else 512
    begin = settings.largest_from or min(begin, settings.largest_at_most)
    if begin > settings.largest_at_most:
        raise UserError("--largest-from is above --largest-at-most")
    return replace(
        settings,
        batch_sizes=sizes,
        dtype=settings.dtype or ("float32" if cpu else "bfloat16"),
        repeats=settings.repeats or (5 if cpu else 7),
        steps=settings.steps or (1 if cpu else 10),
        largest_from=begin,
        peers=peers_python(settings.peers),
    )


def matmul_peaks(settings: Settings, platform: str, absent: str | None) -> dict[str, Contestant]:
    """JAX's and, unless it is absent, torch's large products, measured in turns."""
    field = {"jax": peak.contestant(settings.dtype, settings.limit_sides)}
    if absent is None:
        shapes = matmul_shapes(platform == "cpu", settings.limit_sides)
        asked = {"dtype": settings.dtype, "shapes": shapes, "device": torch_device(platform)}
        command = [str(settings.peers), "-m", "benchmarks.peers.matmul_torch"]
        field["torch"] = Contestant("matmul peak", command, asked)
    return dict(zip(field, take_turns(field.values(), repeats=3), strict=True))


def time_together(
    settings: Settings, field: Sequence[Trainer], batch_size: int, caches: Path, output: Output
) -> list[Entry]:
    """All at one batch size, in turns."""
    told = functools.partial(_record, output, batch_size=batch_size)
    contestants = [trainer.contestant(batch_size, caches) for trainer in field]
    return [finished(one, batch_size) for one in take_turns(contestants, settings.repeats, told)]


def time_alone(settings: Settings, trainer: Trainer, caches: Path, output: Output) -> Entry:
    """One at the largest batch that it has room for, with no other beside it."""

    def alone(batch_size: int) -> Contestant:
        print(f"{trainer.name}: a batch of {batch_size}", file=sys.stderr, flush=True)
        return trainer.contestant(batch_size, caches, alone=True)

    size, why = largest(settings.largest_from, settings.largest_at_most, alone)
    if not size:
        return Entry(trainer.name, 0, None, why)
    told = functools.partial(_record, output, batch_size=size)
    (ended,) = take_turns([alone(size)], settings.repeats, told)
    return finished(ended, size, why)


def _record(output: Output, one: Contestant, batch_size: int) -> None:
    """The call that has just ended, unless the contender did with it."""
    if one.failure:
        return
    seconds = one.seconds[-1] / one.facts["steps"]
    print(f"{one.name}, batch of {batch_size}: {seconds:.4g} s", file=sys.stderr, flush=True)
    row = {"contender": one.name, "batch": batch_size, "repeat": len(one.seconds) - 1}
    output.record(row | {"seconds": seconds})


def run(settings: Settings) -> None:
    """Measures and tells.

    Raises:
      UserError: a setting cannot be right.
    """
    here = device.ask()
    settings = fitted(settings, here.platform)
    work = Work(settings.size, settings.dtype, settings.steps, here.platform)
    chosen = matching(trainers(work, settings.peers, settings.compile_modes), settings.only)
    absent = why_absent(settings.peers, PEER)
    present = [trainer for trainer in chosen if not (trainer.peer and absent)]
    flops = 3 * SIZES[settings.size].model.forward_flops()
    description = describe(settings.peers) | here.facts
    description |= {
        "model": f"image tower of {settings.size}, {flops / 1e9:.4g} GFLOP a step and image",
        "computation": settings.dtype,
        "repeats": f"{settings.repeats} of {settings.steps} steps",
    }
    output = Output(settings.output, description)
    peaks = matmul_peaks(settings, here.platform, absent)
    top = max(peak.rate(one) for who, one in peaks.items() if who == "jax" or not one.failure)
    output.show(facts({f"matmul, {who}": _peak(one) for who, one in peaks.items()}))
    output.record({"peaks": {who: one.facts for who, one in peaks.items()}})
    with tempfile.TemporaryDirectory() as caches:
        for size in settings.batch_sizes:
            if size == "largest":
                entries = [time_alone(settings, t, Path(caches), output) for t in present]
            else:
                entries = time_together(settings, present, size, Path(caches), output)
            found = {entry.name: entry for entry in entries}
            gone = Entry("", 0, None, f"absent: {absent}")
            every = [found.get(t.name, replace(gone, name=t.name)) for t in chosen]
            for entry in entries:
                row = {"contender": entry.name, "batch": entry.batch_size}
                told = entry.ended.facts if entry.ended else {}
                output.record(row | {"outcome": entry.outcome, "facts": told})
            output.show(f"## Batch size: {size}")
            output.show(markdown(COLUMNS, rows(every, top, flops)))


def _peak(one: Contestant) -> str:
    return one.failure or f"{one.facts['flops'] / 1e12:.4g} TFLOP/s"


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.train", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
