"""Merging over time: where each task starts, and how the tasks are merged.

A cell is one training: a benchmark, a start and a seed. It keeps every task's model, so one
training serves all rules at all scales; the cell's sweep evaluates them on held-out training
images. `results` then chooses scales from these, evaluates the chosen ones on the test images and
compares the recipes.
"""

from dataclasses import replace
from pathlib import Path

from magmax_jax.api.presets import PRESETS
from magmax_jax.cli.grid.settings.cell import Cell
from magmax_jax.cli.grid.settings.smoke import DATA, MODEL, PACS, assets_or_none
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
    TrainConfig,
)

STARTS = ("last", "pretrained", "ema", "max_magnitude")
"""Where each task starts: the last model, theta_0, or a rule's merge of the tasks before it."""

REFIT_SCALES = (0, 0.5, 0.7, 1)
"""At scale 0, only theta_0's last map is fitted: the baseline for fine-tuning and merging."""
REFIT_IMAGES = 1_000
"""Per task."""
SWEEP = SweepConfig(
    rules=(
        "max_magnitude",
        "max_magnitude@0.3",
        "average",
        "ema",
        "scaled_last",
        "ties",
        "opcm",
        "tsv_stream",
        "adam_weighted",
        *(f"ema+lda@{scale:g}" for scale in REFIT_SCALES),
    ),
    scales="0.5,0.7,1",
    test="later",
)
"""Every rule at the same scales, so that one scale can be chosen for all benchmarks, and at its
published one; MagMax also at the scale that is best on the digits."""

VALIDATION = 0.1
RECIPE = TrainConfig(
    epochs=2, batch_size=64, learning_rate=1e-4, warmup_fraction=0.1, crop_scale=(1, 1)
)


def over_time(assets: Path | None = None) -> list[Cell]:
    """CIFAR-100 in 5 and in 10 tasks, PACS in its 4 domains, in their order and in one drawn from
    the seed, and scikit-learn's digits in 5 tasks, each with every start.

    A tenth of the training images is held out to choose scales on. Without an assets folder only
    the digits remain, in 5 tasks and in 3 styles, with the bundled small CLIP.
    Expected: no published figure; arXiv 2412.06712 finds that the start and the deployed merge
    matter more than the rule.
    Cost per seed and start on two cores: 15 minutes of training for CIFAR-100 in 5 or in 10 tasks
    and about as much for the sweep; minutes for each of the others.
    """
    cells = []
    for name, config in _benchmarks(assets_or_none(assets)).items():
        config = replace(
            config,
            # Scales are chosen later, over all seeds. adam_weighted makes the run keep moments.
            merges=("max_magnitude", "adam_weighted"),
            merging=MergingConfig(refit_images=REFIT_IMAGES),
            evaluate="last",
            scenario=replace(config.scenario, validation=VALIDATION),
            checkpoint=CheckpointConfig(keep_tasks=True),
        )
        cells += [
            Cell(name, start, replace(config, method=MethodConfig(start=start))) for start in STARTS
        ]
    return cells


def _benchmarks(folder: Path | None) -> dict[str, ExperimentConfig]:
    quickstart, styles = PRESETS["quickstart"][1], PRESETS["styles"][1]
    if folder is None:
        return {"digits-5": quickstart, "digits-styles": styles}
    # 112 pixels cost a quarter of the model's 224.
    model = ModelConfig(str(folder / MODEL), image_size=112)
    cifar100 = ScenarioConfig(data_dir=str(folder / DATA))
    pacs = ScenarioConfig(kind="domain", dataset="folder", data_dir=str(folder / PACS))
    scenarios = {
        "cifar100-5": replace(cifar100, num_tasks=5),
        "cifar100-10": replace(cifar100, num_tasks=10),
        "pacs-domains": pacs,
        "pacs-domains-random": replace(pacs, order="random"),
    }
    found = {
        name: ExperimentConfig(model=model, scenario=scenario, train=RECIPE)
        for name, scenario in scenarios.items()
    }
    return found | {"digits-5": quickstart}
