"""The cost of a run, computed from its configuration before anything is loaded.

Steps come from the data if it can be read, else from the catalogue's sizes; checkpoint bytes and
floating-point operations come from the model's shape, without reading its weights.
"""

from collections.abc import Sequence
from typing import NamedTuple

from magmax_jax.config import ExperimentConfig, ScenarioConfig
from magmax_jax.data import Preprocessing, num_batches
from magmax_jax.data.catalogue import find
from magmax_jax.data.data_set import DataSet
from magmax_jax.data.published import published_domains
from magmax_jax.errors import UserError
from magmax_jax.models import ModelShape, abstract_model, known_shape
from magmax_jax.registry import REGULARIZERS, SCENARIO_KINDS
from magmax_jax.runs import state
from magmax_jax.runs.choose_scales import scales_to_try
from magmax_jax.runs.merge_specs import (
    Merge,
    Refitted,
    needs_moments,
    num_models,
    parse_merges,
    parse_refits,
)
from magmax_jax.runs.notes import warmup_notes
from magmax_jax.scenarios import at_once, build_scenario, members_of
from magmax_jax.sharding import one_device
from magmax_jax.training import build_regularizer, check_method, make_trainer

READ_AT_MOST = 200_000
"""Most images of a known data set whose labels are read for an exact count; reading more takes
minutes."""


class TaskSize(NamedTuple):
    """One task's training images and epochs."""

    images: int
    epochs: int


class DataSize(NamedTuple):
    """The size of a scenario's data.

    Attributes:
      tasks: in order.
      test: number of test images of all tasks.
      classes: k.
      inexact: why the numbers are the catalogue's, "" if they were counted in the data.
      held_out: number of training images, over all tasks, that are held out.
      remedy: the words of the command that prepares the data, () if there is none.
    """

    tasks: tuple[TaskSize, ...]
    test: int
    classes: int
    inexact: str
    held_out: int = 0
    remedy: tuple[str, ...] = ()


class Estimate(NamedTuple):
    """The cost of one run.

    Attributes:
      tasks: learned one after another.
      steps: of fine-tuning, over all tasks.
      images: processed in training, counting repeats.
      evaluated: images processed in evaluation, at most.
      nbytes: of checkpoints, at most; None if the model's shape is unknown.
      flops: of training and evaluation; None likewise.
      inexact: why steps are not exact, "" if they are.
      remedy: the words of the command that makes them exact, () if there is none.
      unknown: why bytes are unknown, "" if they are known.
      notes: what to know before training, one sentence each.
    """

    tasks: int
    steps: int
    images: int
    evaluated: int
    nbytes: int | None
    flops: float | None
    inexact: str
    unknown: str
    notes: tuple[str, ...] = ()
    remedy: tuple[str, ...] = ()


def estimate(config: ExperimentConfig, data: DataSize) -> Estimate:
    """The cost of running a configuration; `data` is its scenario's `data_size`.

    Raises:
      UserError: the method contradicts itself, or a merge or the model's directory is not what the
        configuration says.
    """
    check_method(config.method)
    tasks = _learned(config, data.tasks)
    steps = [num_batches(t.images, config.train.batch_size, t.epochs) for t in tasks]
    images = sum(task.images * task.epochs for task in tasks)
    shape, unknown = known_shape(
        config.model.source, config.model.image_size, config.model.text_source
    )
    merges = parse_merges(config, shape=shape)
    refits = parse_refits(config, merges, shape)
    rounds = len(config.evaluated_after(len(tasks)))
    evaluated = data.test * (1 + num_models(config) * rounds)
    if config.merging.scales is not None:
        tried = [len(scales_to_try(config, merge)) for merge in merges.values() if merge.scales]
        tried += [len(refitted.scales) for refitted in refits.values()]
        evaluated += sum(data.held_out * scales + data.test for scales in tried)
    nbytes = flops = None
    if shape is not None:
        nbytes = _nbytes(config, shape, merges, refits, data.classes, len(tasks))
        flops = _flops(config, shape, tasks, evaluated + _refitted(config, tasks, refits))
    return Estimate(
        tasks=len(tasks),
        steps=sum(steps),
        images=images,
        evaluated=evaluated,
        nbytes=nbytes,
        flops=flops,
        inexact=data.inexact,
        unknown=unknown,
        notes=tuple(warmup_notes(config.train, steps)),
        remedy=data.remedy,
    )


def data_size(config: ScenarioConfig, seed: int) -> DataSize:
    """Counted in the data if it is prepared and not too large, else from the catalogue.

    Raises:
      UserError: the data cannot be read and the catalogue does not have its sizes.
    """
    found = [find(member.dataset) for member in members_of(config)]
    known = [data for data in found if data and data.has_sizes]
    sized = len(known) == len(found)
    if sized and sum(data.train_size for data in known) > READ_AT_MOST:
        return _catalogued(config, known, "too many images to look through")
    try:
        scenario = build_scenario(config, seed)
    except UserError as error:
        if sized:
            return _catalogued(config, known, str(error), tuple(error.command))
        raise
    tasks = tuple(TaskSize(len(task.train), task.epochs) for task in scenario.tasks)
    classes = len({int(label) for task in scenario.tasks for label in task.classes})
    held_out = sum(len(task.validation) for task in scenario.tasks)
    return DataSize(tasks, scenario.num_test, classes, "", held_out)


def _flops(
    config: ExperimentConfig, shape: ModelShape, tasks: Sequence[TaskSize], evaluated: int
) -> float:
    """A training image costs three forward passes (two for the gradient), an evaluated image one.

    Remat adds one per training image; a regularizer says what it adds per image of a step and per
    image that it reads once a task.
    """
    spec = REGULARIZERS[config.method.regularizer]
    images = sum(task.images * task.epochs for task in tasks)
    once = sum(spec.images_once(config.method, task.images) for task in tasks)
    passes = 3 + spec.passes_per_image + config.train.remat
    return shape.forward_flops() * (passes * images + spec.passes_per_task * once + evaluated)


def _refitted(
    config: ExperimentConfig, tasks: Sequence[TaskSize], refits: dict[str, Refitted]
) -> int:
    """Forward passes of refits: each task's images pass through the models after and before it; the
    first task has no model before it."""
    most = config.merging.refit_images
    read = [task.images if most is None else min(task.images, most) for task in tasks]
    times = sum(len(refitted.scales) for refitted in refits.values())
    return times * (2 * sum(read) - read[0])


def _nbytes(
    config: ExperimentConfig,
    shape: ModelShape,
    merges: dict[str, Merge],
    refits: dict[str, Refitted],
    classes: int,
    tasks: int,
) -> int:
    tower, theta = abstract_model(shape).image_tower(config.model.dtype)
    preprocessing, layout = Preprocessing(shape.image_size), one_device()
    regularizer = build_regularizer(config.method, tower, preprocessing, classes, layout)
    trainer = make_trainer(tower, preprocessing, config.train, layout=layout)
    refitted = state.refit_shapes(refits, theta, classes)
    largest = state.abstract_trees(
        theta, merges, regularizer, trainer, tasks, training=True, refits=refitted
    )
    return state.bytes_of(largest, config.checkpoint, tasks, needs_moments(merges))


def _learned(config: ExperimentConfig, tasks: tuple[TaskSize, ...]) -> tuple[TaskSize, ...]:
    """The tasks with their final number of epochs; a single task if they are learned jointly."""
    tasks = tuple(TaskSize(t.images, config.train.epochs or t.epochs) for t in tasks)
    if not config.method.joint:
        return tasks
    common, times = at_once([task.epochs for task in tasks])
    return (TaskSize(sum(t.images * n for t, n in zip(tasks, times, strict=True)), common),)


def _catalogued(
    config: ScenarioConfig, known: Sequence[DataSet], reason: str, remedy: tuple[str, ...] = ()
) -> DataSize:
    """Assumes that all classes, and all domains, have equally many images."""
    tasks, tests, held_out, classes = [], 0, 0, 0
    for member, data in zip(members_of(config), known, strict=True):
        domains = len(published_domains(member.dataset)) or 1
        train, test = (
            min(size, (config.limit_per_class or size) * data.classes * domains)
            for size in (data.train_size, data.test_size)
        )
        tests, classes = tests + test, classes + data.classes
        for share in SCENARIO_KINDS[config.kind].shares(config, data.classes, domains):
            images = round(train * share * (1 - config.validation))
            tasks.append(TaskSize(images, member.epochs))
            held_out += round(train * share) - images
    return DataSize(tuple(tasks), tests, classes, reason, held_out, remedy)
