"""Finished runs with made-up accuracies, swept on validation and partly on test images."""

from collections.abc import Mapping
from pathlib import Path

from magmax_jax.config import CheckpointConfig, ExperimentConfig, MethodConfig, ScenarioConfig
from magmax_jax.evaluation.rows import Row
from magmax_jax.io import json_lines
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import num_models

CIFAR = ScenarioConfig(num_tasks=5, validation=0.1)
PACS = ScenarioConfig(kind="domain", dataset="folder", data_dir="/data/pacs", validation=0.1)
SEEDS = 1, 2, 3

VALIDATED = {
    "class": {
        "max_magnitude": {0.5: 0.50, 0.7: 0.54, 1.0: 0.30},
        "ema": {0.5: 0.45, 0.7: 0.50, 1.0: 0.60},
        "tsv_m": {0.5: 0.30, 0.7: 0.64, 1.0: 0.64},
        "min_magnitude": {0.5: 0.20, 0.7: 0.30, 1.0: 0.40},
    },
    "domain": {
        "max_magnitude": {0.5: 0.60, 0.7: 0.58, 1.0: 0.40},
        "ema": {0.5: 0.45, 0.7: 0.63, 1.0: 0.62},
        "tsv_m": {0.5: 0.20, 0.7: 0.66, 1.0: 0.66},
        "min_magnitude": {0.5: 0.20, 0.7: 0.30, 1.0: 0.40},
    },
}
"""Accuracy by kind of scenario, rule and scale, for every seed."""
TESTED = {
    "class": {
        "max_magnitude": {0.5: (0.40, 0.40, 0.40), 0.7: (0.50, 0.51, 0.52)},
        "ema": {1.0: (0.55, 0.56, 0.60)},
        "tsv_m": {0.7: (0.60, 0.61, 0.62), 1.0: (0.60, 0.60, 0.60)},
        "min_magnitude": {1.0: (0.40, 0.40, 0.40), 0.5: (0.10, 0.10, 0.10)},
    },
    "domain": {
        "max_magnitude": {0.5: (0.60, 0.60, 0.60), 0.7: (0.592, 0.592, 0.592)},
        "ema": {0.7: (0.63, 0.64, 0.65), 1.0: (0.62, 0.61, 0.60)},
        "tsv_m": {0.7: (0.60, 0.60, 0.60), 1.0: (0.60, 0.60, 0.60)},
        "min_magnitude": {1.0: (0.40, 0.40, 0.40), 0.5: (0.10, 0.10, 0.10)},
    },
}
"""Accuracy of each seed at the evaluated scales."""


def config_of(scenario: ScenarioConfig, seed: int, method: MethodConfig) -> ExperimentConfig:
    return ExperimentConfig(
        scenario=scenario,
        method=method,
        merges=("max_magnitude",),
        evaluate="last",
        checkpoint=CheckpointConfig(keep_tasks=True),
        seed=seed,
    )


def evaluated(
    model: str, scale: float | None, accuracy: float, split: str = "test", after: int = 4
) -> list[Row]:
    """The rows of one evaluation, in groups `all` and a group for each task."""
    count = 50 if split == "test" else 20
    return [
        Row(after, model, scale, protocol, group, accuracy, count, None, split)
        for protocol in ("agnostic", "aware")
        for group in ("all", *(f"task {number}" for number in range(1, 5)))
    ]


def write_run(
    path: Path,
    scenario: ScenarioConfig,
    seed: int,
    method: MethodConfig | None = None,
    validated: Mapping[str, Mapping[float, float]] | None = None,
    tested: bool = True,
) -> RunDirectory:
    """A finished and swept run of four tasks.

    Args:
      validated: accuracies on validation images; default `VALIDATED`.
      tested: whether test images were evaluated.
    """
    run = RunDirectory(path)
    config = config_of(scenario, seed, method or MethodConfig())
    run.start(config)
    place = SEEDS.index(seed)
    run.append(evaluated("zero_shot", None, 0.2, after=0))
    run.append(evaluated("finetuned", None, 0.45))
    magmax = TESTED[scenario.kind]["max_magnitude"][0.5][place]
    run.append(evaluated("max_magnitude", 0.5, magmax))
    assert run.is_complete(config, num_models(config))
    rows = [
        row
        for rule, found in (validated or VALIDATED[scenario.kind]).items()
        for scale, accuracy in found.items()
        for row in evaluated(rule, scale, accuracy, "validation")
    ]
    if tested:
        for rule, scales in TESTED[scenario.kind].items():
            for scale, accuracies in scales.items():
                rows += evaluated(rule, scale, accuracies[place])
    run.keep_swept(rows)
    measured = dict.fromkeys(
        ("loss", "gradient_norm", "learning_rate", "parameter_norm", "update_norm"), 1.0
    )
    measured |= {"seconds": 900.0, "images_per_second": 2.0}
    steps = [{"task": 1, "step": n, "total_step": n} | measured for n in (1, 2)]
    json_lines.write(run.metrics, steps)
    return run


def write_all(folder: Path, tested: bool = True) -> None:
    """Writes both scenarios with every seed; tasks start from the last model."""
    for name, scenario in (("cifar", CIFAR), ("pacs", PACS)):
        for seed in SEEDS:
            write_run(folder / name / str(seed), scenario, seed, tested=tested)
