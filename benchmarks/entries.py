"""What came of training: an entry for every contender at every batch size, and their table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.turns import Contestant

COLUMNS = [
    "", "batch", "seconds a step", "all runs", "images/s", "MFU", "times ours", "peak memory",
    "compilation, s", "outcome",
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One contender at one batch size.

    Attributes:
      batch_size: 0 where no size was possible.
      ended: None where it never began.
      outcome: "ok", why it failed or is absent, or why its batch is the largest.
    """

    name: str
    batch_size: int
    ended: Contestant | None
    outcome: str

    @property
    def seconds(self) -> list[float]:
        """Of a step, in every run."""
        if self.ended is None:
            return []
        return [taken / self.ended.facts["steps"] for taken in self.ended.seconds]

    @property
    def images(self) -> float:
        """A second; 0 where there was no run."""
        return self.batch_size / statistics.median(self.seconds) if self.seconds else 0.0


def finished(ended: Contestant, batch_size: int, why: str = "ok") -> Entry:
    """Of one that took part; `why` is its outcome if it did not fail."""
    return Entry(ended.name, batch_size, ended, ended.failure or why)


def rows(entries: Sequence[Entry], peak: float, flops: float) -> list[list[str]]:
    """A row for every entry, one that did not finish included, and one for the limit.

    Args:
      peak: floating-point operations a second of large matrix products.
      flops: that one image takes.
    """
    ours = next((entry.images for entry in entries if entry.name == "ours"), 0.0)
    limit = peak / flops

    def rates(images: float) -> list[str]:
        times = f"{ours / images:.2f}" if ours else ""
        return [f"{images:,.1f}", f"{100 * images / limit:.1f} %", times]

    table = []
    for entry in entries:
        batch = str(entry.batch_size or "")
        if not entry.seconds:
            table.append([entry.name, batch, *[""] * 7, entry.outcome])
            continue
        facts = entry.ended.facts
        table.append(
            [
                entry.name,
                batch,
                f"{statistics.median(entry.seconds):.4g}",
                " ".join(f"{taken:.4g}" for taken in entry.seconds),
                *rates(entry.images),
                f"{facts['memory'] / 1e9:.2f} GB" if "memory" in facts else "",
                f"{max(facts['compile'], 0):.1f}",
                entry.outcome,
            ]
        )
    sizes = {entry.batch_size for entry in entries if entry.batch_size}
    for size in sorted(sizes):
        seconds = f"{size / limit:.4g}"
        table.append(["limit: matmul", str(size), seconds, "", *rates(limit), "", "", ""])
    return table
