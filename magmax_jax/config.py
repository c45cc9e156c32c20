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
    """How the command line takes a name of the registry: --help and errors list all of them.

    They are listed when the command line is parsed, so names that users registered are included.
    """

    def names() -> Any:
        return Literal[tuple(registry)]

    return tyro.conf.arg(
        constructor_factory=names,
        # tyro shows the default of a type made on demand as the repr of a list: ['none'].
        help_behavior_hint=lambda default: f"(default: {default[2:-2]})",
    )


def listing(registry: Registry) -> Any:
    """How --help lists the names of a registry, for a field that also takes other values.

    As for `one_of`, names that users registered are included.
    """
    return tyro.conf.arg(
        help_behavior_hint=lambda default: f"(default: {default}; names: {', '.join(registry)})"
    )


@dataclass(frozen=True)
class ModelConfig:
    """theta_0: where it comes from and how it computes."""

    source: str = "openai/clip-vit-base-patch16"
    """Hugging Face hub id, or a directory that holds a CLIP checkpoint."""
    image_size: int | None = None
    """Input size in pixels; another than the checkpoint's interpolates its position embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the image tower; master weights are float32 either way."""

    def __post_init__(self) -> None:
        size = self.image_size
        _require(size is None or size > 0, f"model.image_size is {size}: it must be positive")


@dataclass(frozen=True)
class ScenarioConfig:
    """Which tasks arrive, in which order."""

    kind: Annotated[str, one_of(SCENARIO_KINDS)] = "class"
    """class: each task brings new classes; domain: a new domain of all classes; datasets: another
    data set, with a head of its own; data: an equal share of every class's images."""
    dataset: Annotated[str, listing(DATA_SETS)] = "cifar100"
    """A data set known by name, folder (train|test/[domain/]class/* images), or any TFDS builder
    with image and label."""
    datasets: tuple[str, ...] = ("eight",)
    """Of kind datasets: NAME[@EPOCHS] each, in the order of learning; folder:DIR is a folder of
    images, and eight, fourteen and twenty are the lists of the literature, the last two without the
    one and two data sets that TFDS does not have."""
    data_dir: str | None = None
    """Where prepared TFDS data sets lie (default: TFDS's own), or the folder of images."""
    num_tasks: int = 10
    """Number of tasks of kinds class and data; the others have one a domain or data set."""
    allow_unequal: bool = False
    """Accept tasks of unequal class counts: task i takes floor(n i / T) to floor(n (i+1) / T)."""
    order: Literal["published", "natural", "random"] = "published"
    """Order of classes, domains or data sets: the published one (natural where there is none), the
    own one of the data set or list, or a permutation drawn from the seed."""
    shuffle_tasks: bool = False
    """Let the same tasks arrive in an order drawn from the seed."""
    limit_per_class: int | None = None
    """Keep at most this many training and this many test images of each class (and domain)."""
    validation: float = 0.0
    """Share of each class's (and domain's) training images that every task holds out: never trained
    on, for choosing the scale of a merge."""
    templates: tuple[str, ...] = ()
    """Prompts, {} standing for the class name; none means the data set's published ones."""
    names: Literal["published", "plain"] = "published"
    """Class names in prompts: as the paper put them, cifar100's with their underscores
    ("aquarium_fish"), or with spaces throughout."""

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
                f"scenario.templates: {template!r} lacks the place {{}} of the name",
            )


@dataclass(frozen=True)
class MethodConfig:
    """How one task's training relates to the last one's."""

    sequential: bool = True
    """Start task t from theta_(t-1) (MagMax); otherwise every task starts from theta_0."""
    regularizer: Annotated[str, one_of(REGULARIZERS)] = "none"
    """Penalty against forgetting: elastic weight consolidation, learning without forgetting, or a
    pull towards theta_0."""
    strength: float | None = None
    """Factor of that penalty; none means the published one (ewc 1e6, lwf 0.3; l2_sp has none)."""
    fisher: Literal["empirical", "batch", "accumulated"] = "empirical"
    """What ewc squares: examples' gradients, batches', or the published code's running sums."""
    joint: bool = False
    """Learn all tasks at once, as if they were one: the upper bound. Nothing is merged."""

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
    """Passes over a task's images; none means the data set's published number, 10 where there is
    none."""
    batch_size: int = 128
    learning_rate: float = 1e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.1
    """Decoupled, on every trained tensor."""
    clip_norm: float = 1.0
    """Global norm to which gradients are clipped."""
    warmup_steps: int = 500
    """Linear warm-up whatever the task's length, as published; a shorter task never peaks."""
    warmup_fraction: float | None = None
    """Warm up over this fraction of the task's steps instead."""
    label_smoothing: float = 0.0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Area of the random resized crop, as a share of the image; 1 1 switches it off."""
    workers: int = 0
    """Processes that decode images; 0 decodes in threads. A small data set (images of one size, at
    most 1 GiB) is decoded once, kept in memory and read by threads, whatever this says."""
    freeze: tuple[str, ...] = ()
    """Patterns of parameters to leave as they are, by Hugging Face's names:
    'vision_model.encoder.layers.[0-5].*' freezes the first six layers."""
    accumulate: int = 1
    """Compute a batch in this many parts, one after another: the same steps in less memory."""
    remat: bool = False
    """Compute each block again for its gradient instead of keeping what it computed: a third more
    computation, a fraction of the memory."""

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
    """Where the published merges are not what their names say."""

    ties_entries: Literal["tower", "clip"] = "tower"
    """What the largest 20 % that ties keeps are counted in: the image tower's entries, or, as
    published, all of CLIP's, which keeps about 35 % of the image tower's."""
    average_divisor: Literal["tasks", "two"] = "tasks"
    """The average divides the sum of the task vectors by their number, or, as published for
    domain-incremental learning, by two, however many there are."""


@dataclass(frozen=True)
class MeshConfig:
    """How the devices of all processes share the work."""

    data: int = -1
    """How often the parameters are held whole: by each device, or by each group of `fsdp` devices.
    A batch is shared out among all of them; -1 takes all devices there are."""
    fsdp: int = 1
    """Devices that hold parameters and optimiser state in pieces, for models too large for one."""

    def __post_init__(self) -> None:
        _require(
            self.data > 0 or self.data == -1,
            f"mesh.data is {self.data}: it must be positive, or -1 for all devices",
        )
        _require(self.fsdp > 0, f"mesh.fsdp is {self.fsdp}: it must be positive")


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps on disk, to go on after an interruption and to be looked at later."""

    every: int | None = None
    """Save after every so many steps, too; none saves after every task alone."""
    keep_tasks: bool = False
    """Keep every theta_t (in tasks/), not only the last; analyses need them."""

    def __post_init__(self) -> None:
        every = self.every
        _require(every is None or every > 0, f"checkpoint.every is {every}: it must be positive")


@dataclass(frozen=True)
class SweepConfig:
    """Which merges to try at which scales, once the last task is learned; it changes no run."""

    rules: tuple[str, ...] = ()
    """Rules of the run's merges, or any where the run keeps every task's model
    (--checkpoint.keep-tasks); none sweeps nothing."""
    scales: str = "0.1:1.5:0.1"
    """FIRST:LAST:STEP, both ends included, or numbers with commas between them."""
    at_once: int | None = None
    """Scales that are evaluated in one pass over the images; none means as many as have 2 GiB of
    parameters at most, which are 6 of CLIP ViT-B/16."""

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
          UserError: they are not written as they should be.
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
            f"sweep.scales is {self.scales!r}: write FIRST:LAST:STEP, as 0.1:1.5:0.1, or numbers "
            "with commas between them, as 0.3,0.5,1"
        )


@dataclass(frozen=True)
class ExperimentConfig:
    """One run: a model, a scenario, a method, and what is merged after every task."""

    model: ModelConfig = field(default_factory=ModelConfig)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    merges: Annotated[tuple[str, ...], listing(RULES)] = ("max_magnitude", "average", "random_mix")
    """RULE or RULE@SCALE; the scales of one rule share its state."""
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
        """Reads what `to_json` wrote; fields that it does not name keep their defaults.

        Raises:
          UserError: the file is missing, not JSON, or not a configuration of ours.
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
            told = str(error)
            raise UserError(told if told.startswith(f"{path}:") else f"{path}: {told}") from None


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
