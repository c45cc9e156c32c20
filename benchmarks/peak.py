"""The matrix products that everything is held against, as a contender in turn with the others."""

import statistics
import sys
from collections.abc import Callable

from benchmarks.turns import Contestant, Facts, Prepared, serve

REPEATS = 3
"""Of every product in one turn."""


def contestant(dtype: str, sides: tuple[int, ...] = ()) -> Contestant:
    """Each of its turns measures; `rate` tells the outcome once it has ended.

    Args:
      dtype, sides: see `limits.matmul_peak`.
    """
    settings = {"dtype": dtype, "sides": sides}
    return Contestant("matmul peak", [sys.executable, "-m", "benchmarks.peak"], settings)


def rate(ended: Contestant) -> float:
    """Floating-point operations a second: the median of its turns, but the first.

    Raises:
      RuntimeError: it has failed.
    """
    if ended.failure is not None:
        raise RuntimeError(f"the matmul peak is not known: {ended.failure}")
    return ended.facts["flops"]


def prepare(settings: Facts) -> Prepared:
    from benchmarks.limits import matmul_peak

    return measuring(lambda: matmul_peak(settings["dtype"], REPEATS, tuple(settings["sides"])))


def measuring(peak: Callable[[], float]) -> Prepared:
    """A contender each of whose calls measures a peak; the median of all but the first is told."""
    rates: list[float] = []

    def call() -> None:
        rates.append(peak())

    def last() -> Facts:
        counted = rates[1:] or rates
        return {"flops": statistics.median(counted), "all": counted}

    return Prepared({}, call, last)


if __name__ == "__main__":
    serve(prepare)
