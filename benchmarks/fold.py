"""Merging in memory: a fold against plain copies of memory, the exact threshold against torch's.

python -m benchmarks.fold --peers PYTHON --output fold.md
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.limits import copies, in_place, seconds
from benchmarks.machine import describe, why_absent
from benchmarks.shapes import SIZES
from benchmarks.tables import facts, markdown
from benchmarks.turns import ROOT, environment
from magmax_jax.merging import fold, kth_magnitude, rules

PASSES = 4
"""Over the model, by a fold: reads the state, theta_t and theta_0, writes the state."""
KEPT = 0.2
"""The share of entries above the threshold."""


@dataclass(frozen=True)
class Settings:
    """Times folding one more model into a state, and finding a global threshold."""

    size: Literal["vit-b16", "small", "tiny"] = "vit-b16"
    """CLIP ViT-B/16, 149.6 M parameters; the others are for trials."""
    numbers: tuple[int, ...] = (60_000_000, 150_000_000)
    """Of how many numbers the threshold is sought."""
    repeats: int = 9
    """Of every measurement, whose median is told."""
    seed: int = 0
    peers: Path = Path(sys.executable)
    """The python of an environment with torch."""
    output: Path | None = None
    """File for the tables; every single time goes into a .jsonl beside it."""


class Timing(NamedTuple):
    """What was measured of one thing."""

    name: str
    seconds: list[float]
    moved: int = 0
    """Bytes that go to or from memory, where that is what is asked."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.moved / self.median


def time_folds(settings: Settings) -> list[Timing]:
    """Of every way of copying a model, and of every rule's fold."""
    theta_0, theta_1 = (_tree(settings, t) for t in (0, 1))
    nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(theta_0))
    timings = [
        Timing(name, taken, 2 * nbytes) for name, taken in copies(theta_0, settings.repeats).items()
    ]
    for name in ("max_magnitude", "average"):
        rule = rules.named(name)
        step = in_place(
            lambda state, rule=rule: fold(rule, state, theta_1, theta_0), rule.init(theta_0)
        )
        taken = seconds(step, settings.repeats)
        timings.append(Timing(f"fold, {name}", taken, PASSES * nbytes))
    return timings


def fold_rows(timings: Sequence[Timing]) -> list[list[str]]:
    reference = max((t for t in timings if not t.name.startswith("fold")), key=lambda t: t.rate)
    return [
        [
            t.name + (", the reference" if t is reference else ""),
            f"{1e3 * t.median:.1f}",
            f"{t.moved / 1e6:.0f}",
            f"{t.rate / 1e9:.1f}",
            f"{100 * t.rate / reference.rate:.0f} %",
        ]
        for t in timings
    ]


def time_threshold(settings: Settings, peers: Path, n: int) -> dict[str, Timing]:
    """Ours, the first call of ours, which compiles, and torch's where it is installed.

    Raises:
      AssertionError: torch finds another threshold.
    """
    numbers = np.random.default_rng([settings.seed, n]).standard_normal(n, np.float32)
    k = n - int(KEPT * n)
    on_device = jnp.asarray(numbers)
    start = time.perf_counter()
    found = float(kth_magnitude(on_device, k))
    timings = {"first": Timing(f"kth_magnitude of {n}, first", [time.perf_counter() - start])}
    taken = seconds(lambda: kth_magnitude(on_device, k), settings.repeats)
    timings["ours"] = Timing(f"kth_magnitude of {n}", taken)
    if not why_absent(peers, "torch", environment()):
        taken, value = _torch(peers, numbers, k, settings.repeats)
        assert value == found, f"of {n} numbers torch finds {value}, we {found}"
        timings["torch"] = Timing(f"torch.kthvalue of {n}", taken)
    return timings


def threshold_row(n: int, timings: Mapping[str, Timing]) -> list[str]:
    ours, torch = timings["ours"].median, timings.get("torch")
    theirs = [f"{torch.median:.3f}", f"{torch.median / ours:.2f}"] if torch else ["absent", ""]
    equal = "equal" if torch else ""
    return [f"{n:,}", f"{ours:.3f}", f"{timings['first'].median:.3f}", *theirs, equal]


def _tree(settings: Settings, t: int) -> dict[str, jax.Array]:
    random = np.random.default_rng([settings.seed, t])
    return {
        name: jnp.asarray(random.standard_normal(shape, np.float32))
        for name, shape in SIZES[settings.size].shapes.items()
    }


def _torch(python: Path, numbers: np.ndarray, k: int, repeats: int) -> tuple[list, float]:
    """Seconds and the threshold, found in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, numbers)
        file.flush()
        shown = subprocess.run(
            [str(python), "-m", "benchmarks.peers.kthvalue", file.name, str(k), str(repeats)],
            capture_output=True, text=True, check=True, cwd=ROOT, env=environment(),
        )  # fmt: skip
    answer: dict[str, Any] = json.loads(shown.stdout)
    return answer["seconds"], answer["found"]


def main(argv: Sequence[str] | None = None) -> None:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.fold", description=__doc__)
    peers = settings.peers.absolute()
    entries = sum(map(math.prod, SIZES[settings.size].shapes.values()))
    model = f"{settings.size}, float32, {entries / 1e6:.1f} M parameters"
    description = describe(peers) | {"model": model, "repeats": str(settings.repeats)}
    folds = time_folds(settings)
    thresholds = {n: time_threshold(settings, peers, n) for n in settings.numbers}
    text = "\n\n".join(
        [
            facts(description),
            "## One more model",
            markdown(["", "milliseconds", "MB moved", "GB/s", "share"], fold_rows(folds)),
            "## The exact global threshold",
            markdown(
                ["numbers", "ours, s", "first call, s", "torch, s", "times ours", "result"],
                [threshold_row(n, timings) for n, timings in thresholds.items()],
            ),
        ]
    )
    print(text)
    if settings.output:
        settings.output.write_text(text + "\n")
        every = [*folds, *(t for timings in thresholds.values() for t in timings.values())]
        rows = [{"environment": description}, *(t._asdict() for t in every)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        settings.output.with_suffix(".jsonl").write_text(lines)


if __name__ == "__main__":
    main()
