"""How task vectors are merged, and which scales are tried."""

import math
from dataclasses import dataclass
from typing import Literal

from magmax_jax.config.checks import require
from magmax_jax.errors import ConfigError


@dataclass(frozen=True)
class MergingConfig:
    """Choices in which the published merges differ from their definitions."""

    ties_entries: Literal["tower", "clip"] = "tower"
    """Entries of which ties keeps the largest 20 %. tower: the image tower's; clip: all of CLIP's,
    as in the published code, which keeps about 35 % of the image tower's."""
    average_divisor: Literal["tasks", "two"] = "tasks"
    """Divisor of average. tasks: the number of task vectors; two: always 2, as in the published
    code for domain-incremental learning."""
    matrices: Literal["shape"] | None = None
    """What singular-value rules (iso_c, opcm, tsv_m, tsv_stream) treat as matrices. Not set: the
    model's linear maps; shape: every two-dimensional tensor, including the position embedding, as
    in the published code of iso_c and tsv_m."""
    scales: str | None = None
    """Scales to try for each merge after the last task, on held-out training images
    (scenario.validation): FIRST:LAST:STEP or numbers separated by commas. Only the best scale and
    the published one are evaluated on test images; RULE+REFIT is tried at the scales that merges
    names. Not set: no scale is chosen."""
    refit_images: int | None = None
    """Number of training images per task that a refit (RULE+REFIT among the merges) reads, drawn
    with the seed. Not set: all."""

    def __post_init__(self) -> None:
        images = self.refit_images
        require(
            images is None or images > 0, f"merging.refit_images is {images}: it must be positive"
        )
        _ = self.values

    @property
    def values(self) -> tuple[float, ...]:
        """`scales` as numbers; () if not set.

        Raises:
          ConfigError: they have neither form.
        """
        return () if self.scales is None else _numbers(self.scales, "merging.scales")


@dataclass(frozen=True)
class SweepConfig:
    """Merges to evaluate at many scales after the last task; the run itself does not change."""

    rules: tuple[str, ...] = ()
    """Rules among the run's merges, or any rule if the run keeps every task's model
    (--checkpoint.keep-tasks), including your own, module:function. RULE@SCALE is evaluated at that
    scale only. RULE+REFIT is refitted for every scale, from every task's model and images. Not set:
    no sweep."""
    scales: str = "0.1:1.5:0.1"
    """FIRST:LAST:STEP, both ends included, or numbers separated by commas. If images are held out,
    the published scale is also evaluated on test images."""
    at_once: int | None = None
    """Scales evaluated in one pass over the images; not set: as many as fit in a quarter of an
    accelerator's memory, or in 2 GiB on a CPU (6 for CLIP ViT-B/16)."""
    test: Literal["all", "chosen", "later"] = "all"
    """Scales evaluated on test images. all: every one; chosen: each rule's best on the validation
    images, and its published one; later: none for now."""

    def __post_init__(self) -> None:
        at_once = self.at_once
        require(at_once is None or at_once > 0, f"sweep.at_once is {at_once}: it must be positive")
        _ = self.values

    @property
    def values(self) -> tuple[float, ...]:
        """The scales.

        >>> SweepConfig(scales="0.1:0.4:0.1").values
        (0.1, 0.2, 0.3, 0.4)

        Raises:
          ConfigError: `scales` has neither form.
        """
        return _numbers(self.scales, "sweep.scales")


def _numbers(scales: str, field: str) -> tuple[float, ...]:
    """FIRST:LAST:STEP or numbers separated by commas; raises a ConfigError for anything else."""
    try:
        if ":" not in scales:
            found = tuple(dict.fromkeys(map(float, scales.split(","))))
        else:
            first, last, step = map(float, scales.split(":"))
            count = math.floor((last - first) / step + 1e-9) + 1
            found = tuple(round(first + i * step, 9) for i in range(count))
        if found and all(map(math.isfinite, found)):
            return found
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise ConfigError(
        f"{field} is {scales!r}: write FIRST:LAST:STEP, e.g. 0.1:1.5:0.1, or "
        "numbers separated by commas, e.g. 0.3,0.5,1"
    )
