"""Means with their standard errors, of values and of paired differences."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from magmax_jax.report.paper_table import mean_std


class Estimate(NamedTuple):
    """A mean over seeds, and its uncertainty.

    Attributes:
      error: standard error of the mean; None for a single value.
      size: number of values.
    """

    mean: float
    error: float | None
    size: int


def estimate(values: Iterable[float]) -> Estimate:
    """The mean and its standard error (sample standard deviation over the root of the size).

    >>> estimate([0.5, 0.5])
    Estimate(mean=0.5, error=0.0, size=2)
    """
    mean, std, count = mean_std(values)
    return Estimate(mean, None if std is None else std / math.sqrt(count), count)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The equally weighted mean of independent estimates, with their combined error.

    >>> mean_of([Estimate(1.0, 0.3, 3), Estimate(2.0, 0.4, 3)])
    Estimate(mean=1.5, error=0.25, size=6)
    """
    errors = [each.error for each in estimates]
    known = [error for error in errors if error is not None]
    error = math.hypot(*known) / len(known) if len(known) == len(errors) else None
    mean = sum(each.mean for each in estimates) / len(estimates)
    return Estimate(mean, error, sum(each.size for each in estimates))
