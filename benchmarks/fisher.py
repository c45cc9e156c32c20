"""EWC's Fisher of one batch compared with a training step on it: the cost of a batch in steps.

python -m benchmarks.fisher --before CHECKOUT --output fisher.md
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import tables
from benchmarks.contenders import ROOT, Served
from benchmarks.flags import BeforeFlags, command
from benchmarks.machine import describe
from benchmarks.tables import Output, table

STEP, FISHER = "training step", "Fisher"


@dataclass(frozen=True, kw_only=True)
class Settings(BeforeFlags):
    """Times a training step and the Fisher, in turns, for this build and another."""

    size: Literal["vit-b16", "vit-l14", "small", "tiny"] = "vit-b16"
    """CLIP ViT-B/16 or ViT-L/14 at 224 px; the others are for trials."""
    batch_size: int = 16
    dtype: Literal["bfloat16", "float32"] = "float32"
    """Computation dtype; parameters are float32."""
    kinds: tuple[Literal["empirical", "batch", "accumulated"], ...] = ("empirical",)
    """Values of --method.fisher."""


def contenders(settings: Settings) -> list[Served]:
    def one(build: str, checkout: Path, kind: str | None) -> Served:
        what = STEP if kind is None else f"{FISHER}, {kind}"
        given = {name: getattr(settings, name) for name in ("size", "batch_size", "dtype")}
        return Served(
            name=f"{build}: {what}", function="benchmarks.ours.fisher:prepare",
            settings=given | {"kind": kind, "checkout": str(checkout)}, labels={"build": build},
        )  # fmt: skip

    builds = {"ours": ROOT} | ({"before": settings.before} if settings.before else {})
    return [
        one(build, checkout, kind)
        for kind in (None, *settings.kinds)
        for build, checkout in builds.items()
    ]


def rows(field: Sequence[Served]) -> str:
    """The table; a Fisher's ratio is relative to the training step of the same build."""
    taken = {one.name: one.median() for one in field if one.calls}

    def steps(one: Served) -> str:
        return tables.ratio(taken[one.name], taken.get(f"{one.labels['build']}: {STEP}"))

    def times_ours(one: Served) -> str:
        return tables.ratio(taken[one.name], taken.get(one.name.replace("before", "ours", 1)))

    columns = {
        "seconds a batch": tables.median(".4g"),
        "training steps": steps,
        "times ours": times_ours,
        "all runs": tables.every(".4g"),
    }
    return table({"": tables.name}, columns, field)


def run(settings: Settings) -> None:
    """Measures and shows."""
    description = describe(before=settings.before) | {
        "model": f"image tower of {settings.size}, {settings.batch_size} images",
        "computation": settings.dtype,
        "repeats": str(settings.repeats),
    }
    output, field = Output(settings.output, description), contenders(settings)
    output.measure(field, settings.repeats)
    output.show(rows(field))


main = command(Settings, run, "benchmarks.fisher", __doc__)

if __name__ == "__main__":
    sys.exit(main())
