"""Presets: each is a complete configuration, any field of which can be changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.registry import REGULARIZERS, SCENARIO_KINDS

TINY_CLIP = str(Path(__file__).parents[1] / "cli" / "assets" / "tiny-clip")
SCALES = "0.1,0.2,0.3,0.5,0.7,1,1.4"
"""Scales tried by the digit presets: accuracy changes smoothly with the scale, so factors of about
1.4 are fine enough, and each scale costs one evaluation of 150 images per rule."""

DIGITS_MERGES = (*ExperimentConfig.merges, "ema+lda@0.7")
"""The default merges, plus the one that `docs/results.md` recommends."""

PRESETS: dict[str, tuple[str, ExperimentConfig]] = {
    "quickstart": (
        "Handwritten digits in 5 tasks of 2 classes, with the bundled small CLIP: two "
        "minutes on a laptop, nothing to download.",
        ExperimentConfig(
            model=ModelConfig(source=TINY_CLIP),
            scenario=ScenarioConfig(dataset="digits", num_tasks=5, validation=0.1),
            # Small models forget little at small learning rates; at this one, forgetting shows.
            train=TrainConfig(
                epochs=10, batch_size=64, learning_rate=3e-4, weight_decay=0.0, warmup_fraction=0.1
            ),
            merges=DIGITS_MERGES,
            merging=MergingConfig(scales=SCALES),
            checkpoint=CheckpointConfig(keep_tasks=True),  # small files, and studies need them
        ),
    ),
    "styles": (
        "The same digits in 3 domains: plain, inverted and coloured; as quick, and nothing to "
        "download either.",
        ExperimentConfig(
            model=ModelConfig(source=TINY_CLIP),
            scenario=ScenarioConfig(kind="domain", dataset="digits_styles", validation=0.1),
            train=TrainConfig(
                epochs=5, batch_size=64, learning_rate=3e-4, weight_decay=0.0, warmup_fraction=0.1
            ),
            merges=DIGITS_MERGES,
            merging=MergingConfig(scales=SCALES),
            checkpoint=CheckpointConfig(keep_tasks=True),
        ),
    ),
    "class": (
        "Class-incremental learning, the paper's recipe: CLIP ViT-B/16 on CIFAR-100 in 10 tasks. "
        "Published accuracy of MagMax: 79.0 %.",
        ExperimentConfig(),
    ),
    "time": (
        "Class-incremental learning on CIFAR-100 in 10 tasks, as class, but each task starts from "
        "the exponential average of those before, which is deployed, too: Best-in-TIME.",
        # Dziadzio et al., 2024, arXiv 2412.06712. The authors' benchmark code merges the running
        # average and the new model half and half by default, so the decay is ema's 0.5 and the
        # scale 1. It begins with theta_0 while ema begins with theta_1, so tau_1 weighs half there.
        ExperimentConfig(
            method=MethodConfig(start="ema"), merges=("ema", "max_magnitude", "scaled_last")
        ),
    ),
    "domain": (
        "Domain-incremental learning, the paper's recipe, over the domains of an image folder "
        "(train|test/domain/class/*) at --scenario.data-dir.",
        ExperimentConfig(scenario=ScenarioConfig(kind="domain", dataset="folder")),
    ),
    "datasets": (
        "One data set after another, each with its own head: the paper's eight, or any of your own "
        "(--scenario.datasets cars@35 folder:/my/pets ...).",
        ExperimentConfig(scenario=ScenarioConfig(kind="datasets")),
    ),
    "folder": (
        "Class-incremental learning of your own images ([train|test/][domain/]class/*) at "
        "--scenario.data-dir, in tasks of two classes or more: 80 images are enough.",
        ExperimentConfig(
            scenario=ScenarioConfig(dataset="folder", num_tasks=None, allow_unequal=True),
            # Small tasks: many steps from few images, and a warm-up short enough to reach the peak.
            train=TrainConfig(epochs=20, batch_size=16, learning_rate=3e-5, warmup_fraction=0.1),
        ),
    ),
}


def preset(name: str, **changes: Any) -> ExperimentConfig:
    """One of `PRESETS`, with fields changed as `ExperimentConfig.replace` does.

    >>> preset("quickstart", seed=3, train={"epochs": 2}).train.epochs
    2

    Raises:
      UserError: there is no such preset or field, or a value does not fit its field.
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is not a preset: choose from {', '.join(PRESETS)}")
    return PRESETS[name][1].replace(**changes)


def paper(config: ExperimentConfig) -> ExperimentConfig:
    """The configuration with all implicit choices of the published code.

    - 500 warm-up steps whatever the task's length, not a fraction: tasks with fewer steps never
      reach the peak learning rate.
    - EWC's Fisher from gradients that are not cleared between batches, for which its strength of
      1e6 was chosen.
    - TIES' largest 20 % of all of CLIP, including the untouched text tower's zeros: about 35 % of
      the trained entries.
    - In domain-incremental learning the average divides by two, not by the number of domains.
    - Class names of cifar100 with underscores, classes and domains in the published order.

    Maximum magnitude needs no switch: in our rule, too, a later task wins a tie.
    """
    published = REGULARIZERS[config.method.regularizer].published
    divisor = SCENARIO_KINDS[config.scenario.kind].published_divisor
    return replace(
        config,
        scenario=replace(config.scenario, names="published", order="published"),
        method=replace(config.method, **published),
        train=replace(config.train, warmup_steps=500, warmup_fraction=None),
        merging=replace(config.merging, ties_entries="clip", average_divisor=divisor),
    )
