"""Notes before training: settings with which tasks learn little or nothing."""

from collections.abc import Sequence

from magmax_jax.config import TrainConfig
from magmax_jax.inputs.preprocessing import Preprocessing
from magmax_jax.runs.build import RunParts
from magmax_jax.training import peak_share

LOW = 0.5
"""A task whose peak learning rate is below this share gets a note. The published runs on CIFAR-100
in 10 tasks reach 78 %, as intended."""


def notes_of(parts: RunParts) -> list[str]:
    """Notes about a run's data and training, one sentence each."""
    numbers = range(1, len(parts.tasks) + 1)
    return [
        *parts.scenario.notes,
        *warmup_notes(parts.config.train, [parts.steps(number) for number in numbers]),
        *_single_classes(parts),
        *_quantised(parts),
        *_fewer_images(parts),
        *image_notes(parts.config.model.image_size, parts.preprocessing),
    ]


def warmup_notes(recipe: TrainConfig, steps: Sequence[int]) -> list[str]:
    """A note if tasks end long before their warm-up does.

    Args:
      steps: number of steps of each task.
    """
    short = [count for count in steps if peak_share(recipe, count) < LOW]
    if not short:
        return []
    share, peak = peak_share(recipe, min(short)), recipe.learning_rate
    counts = f"{min(short)}" if min(short) == max(short) else f"{min(short)} to {max(short)}"
    return [
        f"{len(short)} of {len(steps)} tasks have {counts} of the {recipe.warmup_steps} steps of "
        f"warm-up: their learning rate reaches {100 * share:.2g} % of --train.learning-rate "
        f"({share * peak:.2g} of {peak:.2g}); --train.warmup-fraction 0.1 lets it reach all of it"
    ]


def image_notes(image_size: int | None, preprocessing: Preprocessing) -> list[str]:
    """Notes on how images become squares, if that differs from plain CLIP.

    Args:
      image_size: from the configuration, None for the checkpoint's own.
    """
    size, geometry = preprocessing.size, preprocessing.geometry
    settings = geometry.settings(size)
    if geometry.resize.not_saved:
        return [geometry.resize.not_saved]
    if image_size is None or not settings["do_resize"] or not settings["do_center_crop"]:
        return []
    edges = " x ".join(str(edge) for edge in settings["size"].values())
    if edges == str(size):
        return []
    return [
        f"images are resized to {edges} and their central {size} x {size} pixels are shown: the "
        f"image processor's own ratio at --model.image-size {image_size}"
    ]


def _single_classes(parts: RunParts) -> list[str]:
    names = [task.name for task in parts.tasks if len(task.classes) == 1]
    if not names:
        return []
    return [
        f"{', '.join(names)}: with a single class there is nothing to distinguish, so training "
        "learns nothing; add classes, or choose fewer tasks"
    ]


def _quantised(parts: RunParts) -> list[str]:
    config = parts.config.checkpoint
    collecting = [name for name, merge in parts.merges.items() if not merge.rule.streaming]
    if config.task_bits is None:
        return []
    kept = [*(["tasks/"] if config.keep_tasks else []), *collecting]
    if not kept:
        return [
            f"--checkpoint.task-bits {config.task_bits} changes nothing: without "
            "--checkpoint.keep-tasks or a merge that collects task vectors, none are kept"
        ]
    return [f"{', '.join(kept)}: task vectors are kept in {config.task_bits} bits per entry"]


def _fewer_images(parts: RunParts) -> list[str]:
    method = parts.config.method
    if method.fisher_images is None:
        return []
    tasks = [(len(t.train), parts.images_once(n)) for n, t in enumerate(parts.tasks, start=1)]
    sampled = [images for images, read in tasks if read < images]
    if not sampled:
        return [
            f"--method.fisher-images {method.fisher_images} changes nothing: no task has more "
            "training images"
        ]
    if method.fisher != "accumulated":
        return []
    return [
        "--method.fisher accumulated grows with the number of batches: from "
        f"{method.fisher_images} images per task, the same strength is a weaker penalty"
    ]
