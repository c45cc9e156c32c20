"""One training step of CLIP's image tower, ours and torch's side by side.

python -m benchmarks.train --peers PYTHON --output train.md
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks import tables
from benchmarks.contenders import Served, take_turns
from benchmarks.flags import PeersFlags, command, matching
from benchmarks.limits import matmul
from benchmarks.machine import ask, describe
from benchmarks.serving import Facts
from benchmarks.tables import Output, table
from benchmarks.workloads import SIZES, tower_config
from magmax_jax.errors import UserError

ALONE = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
"""For a contender alone on the accelerator: preallocates nearly all memory, unfragmented."""


@dataclass(frozen=True)
class Settings(PeersFlags):
    """Times a training step of every contender, in turns, with a table for each batch size."""

    size: Literal["vit-b16", "vit-l14", "small", "tiny"] = "vit-b16"
    """CLIP ViT-B/16 or ViT-L/14 at 224 px; the others are for trials."""
    batch_sizes: tuple[int | Literal["largest"], ...] = ()
    """Images per step; "largest" is what fits each contender alone (default: 128 and largest; on a
    CPU 16)."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Computation dtype; parameters are float32 (default: bfloat16; on a CPU float32)."""
    steps: int | None = None
    """Steps per call (default: 10; on a CPU 1)."""
    largest_from: int = 128
    """Start of the search for the largest batch; it doubles from there."""
    largest_at_most: int = 4096
    """End of the search, unless memory runs out first. On a CPU, set this: do not exhaust RAM."""
    compile_modes: tuple[Literal["default", "max-autotune-no-cudagraphs"], ...] = ("default",)
    """Modes of torch.compile; each is a contender."""
    limit_sides: tuple[int, ...] = ()
    """Sides of the square products that define the limit (default: sizes that fill the device)."""


def fitted(settings: Settings, platform: str) -> Settings:
    """The settings with the platform's defaults filled in.

    Raises:
      UserError: the search for the largest batch begins above its end.
    """
    if settings.largest_from > settings.largest_at_most:
        raise UserError("--largest-from is above --largest-at-most: lower it")
    cpu = platform == "cpu"
    return replace(
        settings,
        batch_sizes=settings.batch_sizes or ((16,) if cpu else (128, "largest")),
        dtype=settings.dtype or ("float32" if cpu else "bfloat16"),
        steps=settings.steps or (1 if cpu else 10),
    )


def trainers(settings: Settings, platform: str) -> list[Served]:
    """All contenders, still without a batch size.

    Args:
      settings: from `fitted`.
      platform: JAX's platform name: "cpu", "gpu" or "tpu".
    """
    dtype, steps = settings.dtype, {"steps": settings.steps}

    def torch(name: str, way: Facts) -> Served:
        # torch's name for JAX's "gpu"; AMD GPUs are also cuda.
        device = "cuda" if platform == "gpu" else platform
        asked = {"config": tower_config(SIZES[settings.size]), "device": device, "way": way}
        return Served(
            name=name, python=settings.peers, needs="torch, transformers",
            function="benchmarks.peers.train_torch:prepare", settings=steps | asked,
        )  # fmt: skip

    ours = Served(
        name="ours", function="benchmarks.ours.training:prepare",
        settings=steps | {"size": settings.size, "dtype": dtype},
    )  # fmt: skip
    # JAX rounds factors of float32 products to TF32 on a GPU; torch does so only on request.
    way = {"autocast": dtype == "bfloat16", "tf32": platform == "gpu" and dtype == "float32"}
    modes = {mode: "" if mode == "default" else f", {mode}" for mode in settings.compile_modes}
    return [
        ours,
        *(torch(f"torch, compiled{of}", way | {"compiled": mode}) for mode, of in modes.items()),
        torch("torch, eager", way),
        torch("official recipe", {"fused": False}),
    ]


def of_batch(one: Served, batch_size: int, alone: bool = False) -> Served:
    """A contender at a batch size, ready to take part once."""
    return replace(
        one,
        settings=one.settings | {"batch_size": batch_size},
        labels={"batch": batch_size},
        variables=ALONE if alone else {},
    )


def at_largest(settings: Settings, one: Served, output: Output) -> Served:
    """A contender at the largest batch of `largest_from` 2^i images that fits, each tried in a
    fresh process without others; `note` says why no larger one fits."""
    size, found, note = settings.largest_from, None, "no more was tried"
    while size <= settings.largest_at_most:
        tried = of_batch(one, size, alone=True)
        take_turns([tried], repeats=0)
        if tried.failure:
            note = f"{size}: {tried.failure}"
            break
        found, size = of_batch(one, size, alone=True), 2 * size
    if found:
        output.measure([found], settings.repeats)
        found.facts["note"] = note
    return found or tried


def rows(ended: Sequence[Served], peak: float, flops: float) -> str:
    """The table for one batch size; its last rows are the limit.

    Args:
      peak: floating-point operations per second of the fastest large matrix product.
      flops: per image and step.
    """
    limits = []
    for size in sorted({one.labels["batch"] for one in ended if one.calls}):
        limit = Served(name="limit: matmul", function="", settings={}, labels={"batch": size})
        limit.calls.append({"seconds": size * flops / peak})
        limits.append(limit)

    def images(one: Served) -> float:
        return one.labels["batch"] / one.median()

    ours = next((images(one) for one in ended if one.name == "ours" and one.calls), None)
    columns = {
        "seconds a step": tables.median(".4g"),
        "all runs": lambda one: tables.every(".4g")(one) if one.facts else "",
        "images/s": lambda one: f"{images(one):,.1f}",
        "MFU": lambda one: f"{images(one) * flops / peak:.1%}",
        "times ours": lambda one: tables.ratio(ours, images(one)),
        "peak memory": lambda one: tables.size(one.facts["memory"]) if one.facts else "",
        "compilation, s": lambda one: f"{max(one.facts['compile'], 0):.1f}" if one.facts else "",
        "why no larger batch": lambda one: one.facts.get("note", ""),
    }
    return table({"": tables.name, "batch": tables.label("batch")}, columns, [*ended, *limits])


def run(settings: Settings) -> None:
    """Measures and shows the results.

    Raises:
      UserError: a setting is invalid.
    """
    device = ask()
    settings = fitted(settings, device.platform)
    field = matching(trainers(settings, device.platform), settings.only)
    flops = 3 * SIZES[settings.size].forward_flops()
    description = describe(settings.peers) | device.facts
    description |= {
        "model": f"image tower of {settings.size}, {flops / 1e9:.4g} GFLOP per step and image",
        "computation": settings.dtype,
        "repeats": f"{settings.repeats} of {settings.steps} steps",
    }
    output = Output(settings.output, description)
    limit = matmul(settings.dtype, device.platform, settings.limit_sides)
    output.measure([limit], repeats=3)
    if limit.failure:
        raise UserError(f"the limit is not known: {limit.failure}")
    peak = limit.median("flops")
    output.show(f"Matrix products reach {peak / 1e12:.4g} TFLOP/s in {settings.dtype}.")
    for size in settings.batch_sizes:
        if size == "largest":
            ended = [at_largest(settings, one, output) for one in field]
        else:
            ended = [of_batch(one, size) for one in field]
            output.measure(ended, settings.repeats)
        output.show(f"## Batch size: {size}\n\n{rows(ended, peak, flops)}")


main = command(Settings, run, "benchmarks.train", __doc__)

if __name__ == "__main__":
    sys.exit(main())
