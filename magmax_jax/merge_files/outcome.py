"""Checks merged tensors, converts them to the output's dtype, writes them and collects notes.

Entries that a merge does not change keep theta_0's bits. Changes are float32 and are added in
float32, or in float64 for float64 tensors.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from magmax_jax.errors import UserError, counted, some
from magmax_jax.io.safetensors.writer import DirectoryWriter
from magmax_jax.merge_files.aligned import aligned
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.lora.writer import AdapterWriter
from magmax_jax.merge_files.plan import Plan

VARIANCES = {"running_var", "running_variance", "moving_var", "moving_variance", "var"}
"""Last parts of the names of BatchNorm variances in PyTorch, TensorFlow and Flax."""
MIN_REPORTED_SHARE = 0.05
"""The least share of changes lost to rounding that is reported."""


class Outcome:
    """Writes merged tensors and collects notes for the user.

    Args:
      plan: what is merged.
      output: where it is written.
      scratch: a directory for temporary data that does not fit in memory.
    """

    def __init__(self, plan: Plan, output: DirectoryWriter | AdapterWriter, scratch: Path):
        self._plan, self._output, self.scratch = plan, output, scratch
        self._variances = {
            name for name in plan.merged if name.replace("/", ".").split(".")[-1] in VARIANCES
        }
        self._negative: dict[str, int] = {}
        self._changed = self._lost = 0

    def apply(
        self,
        names: Sequence[str],
        theta_0: np.ndarray,
        tau: np.ndarray,
        scale: float | None = None,
    ) -> None:
        """Writes theta_0 + scale tau of whole tensors of one shape.

        Args:
          theta_0: as in its file, stacked: (n, *shape).
          tau: float32, of the same shape.
          scale: the plan's by default.

        Raises:
          UserError: an entry of the result is not finite.
        """
        scale = self._plan.scale if scale is None else scale
        theta = applied(theta_0, tau, scale, self._plan.out_dtypes[names[0]])
        self.put(names, theta_0, theta, tau != 0)

    def put(
        self, names: Sequence[str], theta_0: np.ndarray, theta: np.ndarray, changed: np.ndarray
    ) -> None:
        """Writes whole tensors of one shape, theta_0's values where unchanged.

        Raises:
          UserError: an entry is not finite.
        """
        dtype = self._plan.out_dtypes[names[0]]
        with np.errstate(over="ignore"):  # `check` finds it
            theta = np.where(changed, theta.astype(dtype), theta_0.astype(dtype))
        if not np.isfinite(theta).all():
            for name, row, base in zip(names, theta, theta_0, strict=True):
                self.check(name, row, base)
        self.count(theta, theta_0, changed)
        for name, row, base in zip(names, theta, theta_0, strict=True):
            self.write(name, row, base)

    def check(self, name: str, theta: np.ndarray, theta_0: np.ndarray, start: int = 0) -> None:
        """Raises a UserError if an entry is not finite, unless it is -inf in theta_0 as well.

        Args:
          start: the tensor's entry at which both arrays start, for the message.
        """
        if (bad := ~(np.isfinite(theta) | hidden(theta_0))).any():
            where = int(np.argmax(bad))
            value = theta.reshape(-1)[where]
            raise UserError(_overflow(name, start + where, value, self._plan.job))

    def count(self, theta: np.ndarray, theta_0: np.ndarray, changed: np.ndarray) -> None:
        """Counts the changes that are rounded away if the dtype of `theta` is narrow."""
        if narrow(theta.dtype) and self._plan.scale:
            lost = changed & (theta == theta_0.astype(theta.dtype))
            self.add_counts(int(changed.sum()), int(lost.sum()))

    def add_counts(self, changed: int, lost: int) -> None:
        """Adds to the numbers of entries that the merge changes and that are rounded away."""
        self._changed += changed
        self._lost += lost

    def write(self, name: str, theta: np.ndarray, theta_0: np.ndarray, start: int = 0) -> None:
        """Writes entries from `start` on; variances that would be negative are taken from theta_0.

        A negative variance would make the model's output NaN. theta_0's does not depend on how many
        models are merged at once.
        """
        if name in self._variances:
            negative = (theta < 0) & (theta_0 >= 0)
            if count := int(negative.sum()):
                theta = np.where(negative, theta_0.astype(theta.dtype), theta)
                self._negative[name] = self._negative.get(name, 0) + count
        self._output.write(name, theta, start)

    def notes(self) -> Iterator[str]:
        """What users should know about the finished merge, each in one sentence."""
        if self._negative:
            where = some(list(self._negative), shown=1)
            variances = counted(sum(self._negative.values()), "variance")
            yield (
                f"{variances} would be negative, so theta_0's values are kept there ({where}): "
                "pass data through the model to recompute BatchNorm's statistics"
            )
        if self._changed and self._lost / self._changed >= MIN_REPORTED_SHARE:
            dtypes = {self._plan.out_dtypes[name] for name in self._plan.merged}
            names = " and ".join(sorted(dtype.name for dtype in dtypes if narrow(dtype)))
            yield (
                f"{self._lost / self._changed:.0%} of the changes are rounded away in {names}, "
                f"their entries are theta_0's again: {self._plan.job.wider} float32 keeps them"
            )


def applied(theta_0: np.ndarray, tau: np.ndarray, scale: float, dtype: np.dtype) -> np.ndarray:
    """theta_0 + scale tau in another dtype, with theta_0's bits where tau is zero."""
    base = theta_0 if theta_0.dtype == np.float64 else theta_0.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # `Outcome.check` finds it
        theta = (base + np.float32(scale) * tau).astype(dtype)
        return np.where(tau == 0, theta_0.astype(dtype), theta)


def differences(theta_0: np.ndarray, thetas: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The task vectors, float32; zero where both are equal, even if infinite."""
    wide = any(array.dtype == np.float64 for array in (theta_0, *thetas))
    dtype = np.dtype(np.float64 if wide else np.float32)
    base = theta_0.astype(dtype, copy=False)
    taus = [aligned(theta.shape, np.float32) for theta in thetas]
    with np.errstate(over="ignore", invalid="ignore"):
        for theta, tau in zip(thetas, taus, strict=True):
            np.subtract(theta, base, out=tau, dtype=dtype, casting="same_kind")
    masked = hidden(theta_0)
    if masked.any():
        for theta, tau in zip(thetas, taus, strict=True):
            tau[masked & hidden(theta)] = 0
    return taus


def hidden(array: np.ndarray) -> np.ndarray:
    """Where an array is -inf, as in attention masks; -inf in all models is kept."""
    return np.asarray(array == -np.inf)


def sound(theta: np.ndarray, theta_0: np.ndarray) -> np.ndarray:
    """Where a model's entries are finite, or masked like theta_0's."""
    return np.isfinite(theta) | (hidden(theta) & hidden(theta_0))


def narrow(dtype: np.dtype) -> bool:
    """Whether a dtype has fewer digits than float32."""
    return dtype.itemsize < 4


def _overflow(name: str, entry: int, value: np.generic, job: Job) -> str:
    dtype = value.dtype
    largest = float(ml_dtypes.finfo(dtype).max)
    narrower = largest < 1e38
    if np.isnan(value) and not narrower:
        return (
            f"{name}: entry {entry} of the merge is NaN: the rule cannot merge these models: "
            f"choose another rule, or {job.smaller}"
        )
    other = f"{job.wider} bfloat16 or float32, or " if narrower else ""
    return (
        f"{name}: entry {entry} of the merge is beyond {dtype}, whose largest number is "
        f"{largest:.5g}: choose {other}{job.smaller}"
    )
