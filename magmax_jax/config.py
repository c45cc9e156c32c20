"""The whole experiment as one value: frozen dataclasses, written to and read from JSON."""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from magmax_jax.errors import UserError
from magmax_jax.registry import DATA_SETS, REGULARIZERS, RULES, SCENARIO_KINDS, Registry


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def one_of(registry: Registry) -> Any:
    """Annotation of a field that takes a name of the registry; --help and errors list the names.

    The list is made when the command line is parsed, so it includes names that users registered.
    """

    def names() -> Any:
        return Literal[tuple(registry)]

    return tyro.conf.arg(
        constructor_factory=names,
        # tyro shows the default of a type made on demand as the repr of a list: ['none'].
        help_behavior_hint=lambda default: f"(default: {default[2:-2]})",
    )


def listing(registry: Registry) -> Any:
    """Annotation of a field that also takes other values; --help lists the registry's names.

    As for `one_of`, the list includes names that users registered.
    """
    return tyro.conf.arg(
        help_behavior_hint=lambda default: f"(default: {default}; names: {', '.join(registry)})"
    )


@dataclass(frozen=True)
class ModelConfig:
    """theta_0: where it comes from and how it computes."""

    source: str = "openai/clip-vit-base-patch16"
    """Hugging Face hub id, or a directory with a CLIP checkpoint."""
    image_size: int | None = None
    """Input size in pixels; not set: the checkpoint's. Another size interpolates the position
    embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the image tower; master weights are float32 either way."""

    def __post_init__(self) -> None:
        size = self.image_size
        _require(size is None or size > 0, f"model.image_size is {size}: it must be positive")


@dataclass(frozen=True)
class ScenarioConfig:
    """Which tasks arrive, in which order."""

    kind: Annotated[str, one_of(SCENARIO_KINDS)] = "class"
    """What each task brings. class: new classes; domain: a new domain of all classes; datasets:
    another data set, with its own head; data: an equal share of every class's images."""
    dataset: Annotated[str, listing(DATA_SETS)] = "cifar100"
    """Name of a data set, folder (images in train|test/[domain/]class/*), or any TFDS builder with
    image and label."""
    datasets: tuple[str, ...] = ("eight",)
    """For kind datasets: NAME[@EPOCHS] or folder:DIR[@EPOCHS] each, in learning order, or a list of
    the literature: eight, fourteen (13 of them) or twenty (18); TFDS lacks the others."""
    data_dir: str | None = None
    """Directory of prepared TFDS data sets (default: TFDS's own), or the folder of images."""
    num_tasks: int = 10
    """Number of tasks for kinds class and data; others have one task per domain or data set."""
    allow_unequal: bool = False
    """Allow tasks with different numbers of classes: task i takes classes floor(n i / T) to
    floor(n (i+1) / T)."""
    order: Literal["published", "natural", "random"] = "published"
    """Order of classes, domains or data sets. published: as in the paper, natural if there is none;
    natural: as in the data set or list; random: a permutation drawn from the seed."""
    shuffle_tasks: bool = False
    """Keep the tasks, but learn them in an order drawn from the seed."""
    limit_per_class: int | None = None
    """Keep at most this many training and this many test images of each class (and domain)."""
    validation: float = 0.0
    """Share of each class's (and domain's) training images held out of training, to choose the
    scale of a merge."""
    templates: tuple[str, ...] = ()
    """Prompts, with {} in place of the class name; not set: the data set's published prompts."""
    names: Literal["published", "plain"] = "published"
    """Class names in prompts. published: as in the paper, which keeps cifar100's underscores
    ("aquarium_fish"); plain: with spaces."""

    def __post_init__(self) -> None:
        SCENARIO_KINDS.check(self.kind)
        _require(self.num_tasks > 0, f"scenario.num_tasks is {self.num_tasks}: it must be positive")
        limit = self.limit_per_class
        _require(
            limit is None or limit > 0, f"scenario.limit_per_class is {limit}: it must be positive"
        )
        share = self.validation
        _require(0 <= share < 1, f"scenario.validation is {share}: it lies in [0, 1)")
        for template in self.templates:
            _require(
                "{}" in template,
                f"scenario.templates: {template!r} has no {{}} for the class name",
            )


@dataclass(frozen=True)
class MethodConfig:
    """How training on a task depends on the tasks before it."""

    sequential: bool = True
    """Start task t from theta_(t-1), as MagMax does; otherwise start every task from theta_0."""
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

    def __post_init__(self) -> None:
        # What a regularizer asks of the other fields it says itself: see `training.check_method`.
        REGULARIZERS.check(self.regularizer)
        strength = self.strength
        _require(
            strength is None or 0 <= strength < float("inf"),
            f"method.strength is {strength}: it must be finite and not negative",
        )


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
            _require(value is None or value > 0, f"train.{name} is {value}: it must be positive")
        for name in ("learning_rate", "weight_decay", "clip_norm", "warmup_steps", "workers"):
            value = getattr(self, name)
            _require(value >= 0, f"train.{name} is {value}: it must not be negative")
        fraction = self.warmup_fraction
        _require(
            fraction is None or 0 <= fraction <= 1,
            f"train.warmup_fraction is {fraction}: it lies in [0, 1]",
        )
        _require(
            self.batch_size % self.accumulate == 0,
            f"train.accumulate is {self.accumulate}: it must divide train.batch_size, which is "
            f"{self.batch_size}",
        )
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, f"train.label_smoothing is {smoothing}: it lies in [0, 1)")
        low, high = self.crop_scale
        _require(
            0 < low <= high <= 1, f"train.crop_scale is {low} {high}: it needs 0 < low <= high <= 1"
        )


@dataclass(frozen=True)
class MergingConfig:
    """Choices of the published merges that differ from their definitions."""

    ties_entries: Literal["tower", "clip"] = "tower"
    """Entries of which ties keeps the largest 20 %. tower: the image tower's; clip: all of CLIP's,
    as in the published code, which keeps about 35 % of the image tower's."""
    average_divisor: Literal["tasks", "two"] = "tasks"
    """Divisor of average. tasks: the number of task vectors; two: always 2, as in the published
    code for domain-incremental learning."""


@dataclass(frozen=True)
class MeshConfig:
    """How work is divided among the devices of all processes."""

    data: int = -1
    """Number of full copies of the model (data parallelism); -1 uses all devices. Each batch is
    split over all devices in use."""
    fsdp: int = 1
    """Devices over which each copy's parameters and optimiser state are sharded, for models too
    large for one."""

    def __post_init__(self) -> None:
        _require(
            self.data > 0 or self.data == -1,
            f"mesh.data is {self.data}: it must be positive, or -1 for all devices",
        )
        _require(self.fsdp > 0, f"mesh.fsdp is {self.fsdp}: it must be positive")


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps on disk, to resume after an interruption and for later analysis."""

    every: int | None = None
    """Also save every N steps; not set: save after each task only."""
    keep_tasks: bool = False
    """Keep every theta_t (in tasks/), not only the last; studies need them."""

    def __post_init__(self) -> None:
        every = self.every
        _require(every is None or every > 0, f"checkpoint.every is {every}: it must be positive")


@dataclass(frozen=True)
class SweepConfig:
    """Merges to evaluate at many scales after the last task; the run itself does not change."""

    rules: tuple[str, ...] = ()
    """Rules among the run's merges, or any rule if the run keeps every task's model
    (--checkpoint.keep-tasks); not set: no sweep."""
    scales: str = "0.1:1.5:0.1"
    """FIRST:LAST:STEP, both ends included, or numbers separated by commas."""
    at_once: int | None = None
    """Scales evaluated in one pass over the images; not set: as many as fit in 2 GiB of parameters,
    6 for CLIP ViT-B/16."""

    def __post_init__(self) -> None:
        at_once = self.at_once
        _require(at_once is None or at_once > 0, f"sweep.at_once is {at_once}: it must be positive")
        _ = self.values

    @property
    def values(self) -> tuple[float, ...]:
        """The scales.

        >>> SweepConfig(scales="0.1:0.4:0.1").values
        (0.1, 0.2, 0.3, 0.4)

        Raises:
          UserError: `scales` has neither form.
        """
        try:
            if ":" not in self.scales:
                found = tuple(dict.fromkeys(map(float, self.scales.split(","))))
            else:
                first, last, step = map(float, self.scales.split(":"))
                count = math.floor((last - first) / step + 1e-9) + 1
                found = tuple(round(first + i * step, 9) for i in range(count))
            if found and all(map(math.isfinite, found)):
                return found
        except (ValueError, ZeroDivisionError, OverflowError):
            pass
        raise UserError(
            f"sweep.scales is {self.scales!r}: write FIRST:LAST:STEP, e.g. 0.1:1.5:0.1, or "
            "numbers separated by commas, e.g. 0.3,0.5,1"
        )


@dataclass(frozen=True)
class ExperimentConfig:
    """One run: a model, a scenario, a method, and the merges made after every task."""

    model: ModelConfig = field(default_factory=ModelConfig)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    merges: Annotated[tuple[str, ...], listing(RULES)] = ("max_magnitude", "average", "random_mix")
    """Merges to make after every task: RULE or RULE@SCALE. Scales of one rule share its state."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    eval_batch_size: int = 256
    seed: int = 5

    def __post_init__(self) -> None:
        size = self.eval_batch_size
        _require(size > 0, f"eval_batch_size is {size}: it must be positive")
        _require(self.seed >= 0, f"seed is {self.seed}: it must not be negative")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_file(cls, path: Path | str) -> "ExperimentConfig":
        """Reads what `to_json` wrote; fields missing from the file keep their defaults.

        Raises:
          UserError: the file is missing, not JSON, or not a configuration.
        """
        path = Path(path)
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such configuration file") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable JSON configuration ({error})") from None
        try:
            return _from_json(cls, value, str(path))
        except UserError as error:
            text = str(error)
            raise UserError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None


def _from_json(kind: Any, value: Any, where: str) -> Any:
    """`value` as JSON gave it, as a `kind`: a dataclass, tuple, union, literal or plain type."""
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _require(isinstance(value, dict), f"{where}: expected an object, found {value!r}")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        _require(not unknown, f"{where}: unknown fields {', '.join(unknown)}")
        return kind(
            **{name: _from_json(hints[name], v, f"{where}: {name}") for name, v in value.items()}
        )
    if origin is tuple:
        _require(isinstance(value, list), f"{where}: expected a list, found {value!r}")
        item, *rest = typing.get_args(kind)
        fixed = Ellipsis not in rest
        _require(
            not fixed or len(value) == 1 + len(rest),
            f"{where}: expected {1 + len(rest)} values, found {value!r}",
        )
        return tuple(_from_json(item, v, where) for v in value)
    if origin is Literal:
        choices = typing.get_args(kind)
        _require(value in choices, f"{where}: {value!r} is none of {', '.join(map(repr, choices))}")
        return value
    if origin is types.UnionType:
        kinds = typing.get_args(kind)
        return None if value is None and type(None) in kinds else _from_json(kinds[0], value, where)
    accepted = (int, float) if kind is float else kind
    ok = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    _require(ok, f"{where}: expected {kind.__name__}, found {value!r}")
    return kind(value)
