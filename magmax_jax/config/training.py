"""Fine-tuning on one task, and how it depends on the tasks before."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from magmax_jax.config.checks import require
from magmax_jax.config.registered import listing, one_of
from magmax_jax.registry import REGULARIZERS, RULES

LAST, PRETRAINED = "last", "pretrained"
"""Possible starts of a task other than a rule's merge."""


@dataclass(frozen=True)
class MethodConfig:
    """How training on a task depends on the tasks before it."""

    sequential: bool = True
    """Start task t from theta_(t-1), as MagMax does; otherwise start every task from theta_0, which
    is the same as start pretrained."""
    regularizer: Annotated[str, one_of(REGULARIZERS)] = "none"
    """Penalty against forgetting. ewc: elastic weight consolidation; lwf: learning without
    forgetting; l2_sp: distance to theta_0."""
    strength: float | None = None
    """Weight of the penalty; not set: the published one (ewc 1e6, lwf 0.3; l2_sp has none)."""
    fisher: Literal["empirical", "batch", "accumulated"] = "empirical"
    """Gradients that ewc squares. empirical: of single examples; batch: of batch means;
    accumulated: running sums, as in the published code."""
    joint: bool = False
    """Train on all tasks at once: the upper bound. Nothing is merged."""
    fisher_images: int | None = None
    """Estimate ewc's Fisher from at most this many of a task's training images, drawn with the
    seed; not set: all. With accumulated, fewer images also make the penalty weaker."""

    start: Annotated[str | None, listing(RULES, unset=LAST)] = None
    """Where task t starts. last: from theta_(t-1); pretrained: from theta_0; RULE or RULE@SCALE:
    from that rule's merge of tasks 1 to t-1. Task vectors are always differences to theta_0."""

    def __post_init__(self) -> None:
        # One spelling per start: fields are used to compare configurations and to name runs.
        if self.start == PRETRAINED:
            object.__setattr__(self, "sequential", False)
            object.__setattr__(self, "start", None)
        require(
            self.sequential or self.start is None,
            "method.sequential=False starts every task from theta_0, but method.start is "
            f"{self.start}: choose method.sequential=True and method.start {self.start}, or "
            "method.start pretrained",
        )
        if self.start == LAST:
            object.__setattr__(self, "start", None)
        # A regularizer's requirements on other fields are its own: see `training.check_method`.
        REGULARIZERS.check(self.regularizer)
        strength = self.strength
        require(
            strength is None or 0 <= strength <= sys.float_info.max,
            f"method.strength is {strength}: it must be finite and not negative",
        )
        images = self.fisher_images
        require(
            images is None or images > 0,
            f"method.fisher_images is {images}: it must be positive; leave it out for all images",
        )

    @property
    def starts_from(self) -> str:
        """Where a task starts: "last", "pretrained", or the RULE[@SCALE] of a merge.

        >>> MethodConfig(sequential=False).starts_from, MethodConfig(start="ema@0.7").starts_from
        ('pretrained', 'ema@0.7')
        """
        return self.start or (LAST if self.sequential else PRETRAINED)

    @property
    def start_title(self) -> str:
        """The same, as named in reports: "sequential", "independent", "start ema@0.7"."""
        titles = {LAST: "sequential", PRETRAINED: "independent"}
        return titles.get(self.starts_from, f"start {self.starts_from}")


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning of the image tower on one task (defaults: the paper's recipe)."""

    epochs: int | None = None
    """Passes over a task's images; not set: the data set's published number, else 10."""
    batch_size: int = 128
    learning_rate: float = 1e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on every trained tensor."""
    clip_norm: float = 1.0
    """Global norm at which gradients are clipped."""
    warmup_steps: int = 500
    """Steps of linear warm-up, whatever the task's length, as published; a task with fewer steps
    never reaches the peak."""
    warmup_fraction: float | None = None
    """Warm up over this fraction of the task's steps; replaces warmup_steps."""
    label_smoothing: float = 0.0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Area of the random resized crop, as a fraction of the image; 1 1 disables cropping."""
    workers: int = 0
    """Processes that decode images; 0 decodes in threads. Ignored for small data sets (images of
    one size, at most 1 GiB), which are decoded once and kept in memory."""
    freeze: tuple[str, ...] = ()
    """Patterns of parameters to freeze, by Hugging Face's names:
    'vision_model.encoder.layers.[0-5].*' freezes the first six layers."""
    accumulate: int = 1
    """Split each batch into this many parts, computed one after another: the same steps in less
    memory."""
    remat: bool = False
    """Rematerialise: recompute each block in the backward pass instead of keeping its activations.
    A third more computation, a fraction of the memory."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            value = getattr(self, name)
            require(value is None or value > 0, f"train.{name} is {value}: it must be positive")
        for name in ("learning_rate", "weight_decay", "clip_norm", "warmup_steps", "workers"):
            value = getattr(self, name)
            require(value >= 0, f"train.{name} is {value}: it must not be negative")
        fraction = self.warmup_fraction
        require(
            fraction is None or 0 <= fraction <= 1,
            f"train.warmup_fraction is {fraction}: it must be in [0, 1]",
        )
        require(
            self.batch_size % self.accumulate == 0,
            f"train.accumulate is {self.accumulate}: it must divide train.batch_size, which is "
            f"{self.batch_size}",
        )
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"train.label_smoothing is {smoothing}: it must be in [0, 1)")
        low, high = self.crop_scale
        require(
            0 < low <= high <= 1, f"train.crop_scale is {low} {high}: it needs 0 < low <= high <= 1"
        )
