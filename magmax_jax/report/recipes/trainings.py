"""Runs as seen by a comparison of recipes: a benchmark, a start, a seed, and accuracies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from magmax_jax.config import ExperimentConfig, MethodConfig
from magmax_jax.evaluation.rows import decides
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.report.paper_table import setting_of, titles_of
from magmax_jax.report.runs import Run
from magmax_jax.runs.model_ref import ZERO_SHOT

Accuracies = Mapping[float | None, float]
"""Accuracy in [0, 1] by scale; the scale of an unmerged model is None."""


@dataclass(frozen=True)
class Training:
    """One run: a benchmark, a start and a seed; it serves every rule at every scale."""

    run: Run
    benchmark: str
    start: str
    """last, pretrained, or the merge that each task starts from: ema, ema@0.7."""

    @property
    def seed(self) -> int:
        return self.run.config.seed

    @property
    def kind(self) -> str:
        """How tasks follow one another: class-incremental."""
        return SCENARIO_KINDS[self.run.config.scenario.kind].title

    @cached_property
    def hours(self) -> float:
        """Wall-clock time of the training steps."""
        return sum(line.get("seconds") or 0.0 for line in self.run.steps) / 3600

    def of(self, split: str, model: str) -> Accuracies:
        """Accuracy of a rule, `finetuned` or `zero_shot` on images of a split, by scale."""
        return self._found.get((split, model), {})

    def rules(self, split: str) -> list[str]:
        """The rules evaluated at some scale on images of a split."""
        return [
            model for (of, model), found in self._found.items() if of == split and None not in found
        ]

    def images(self, split: str) -> int:
        """Number of images of a split on which all models were evaluated."""
        rows = (*self.run.rows, *self.run.sweep)
        counts = [row.count for row in rows if (row.split, row.group) == (split, "all")]
        return max(counts, default=0)

    @cached_property
    def _found(self) -> dict[tuple[str, str], dict[float | None, float]]:
        apart = SCENARIO_KINDS[self.run.config.scenario.kind].task_aware
        parts: dict[tuple[str, str], dict[float | None, dict[str, float]]] = {}
        for row in (*self.run.rows, *self.run.sweep):
            after = 0 if row.model == ZERO_SHOT else self.run.learned
            if row.after_task == after and decides(row, apart):
                by_scale = parts.setdefault((row.split, row.model), {})
                by_scale.setdefault(row.scale, {})[row.group] = row.accuracy
        return {
            key: {
                scale: sum(groups.values()) / len(groups)
                for scale, groups in sorted(by_scale.items(), key=lambda found: found[0] or 0.0)
            }
            for key, by_scale in parts.items()
        }


def trainings(runs: Sequence[Run]) -> tuple[list[Training], list[str]]:
    """The runs that can be compared, and notes on the others."""
    found: dict[tuple[str, str, int], Training] = {}
    notes = []
    used: list[Run] = []
    for run in runs:
        if why := _lacking(run):
            notes.append(f"left out, {why}: {run.path}")
        else:
            used.append(run)
    benchmarks = [_benchmark(run.config) for run in used]
    distinct = list(dict.fromkeys(benchmarks))
    titles = dict(zip(distinct, titles_of(distinct), strict=True))
    for run, benchmark in zip(used, benchmarks, strict=True):
        training = Training(run, titles[benchmark], run.config.method.starts_from)
        key = training.benchmark, training.start, training.seed
        if found.setdefault(key, training) is not training:
            notes.append(f"left out, the same as {found[key].run.path}: {run.path}")
    return list(found.values()), notes


def seeds_of(trained: Iterable[Training]) -> list[int]:
    """In ascending order."""
    return sorted({training.seed for training in trained})


def _lacking(run: Run) -> str:
    if run.config.method.joint:
        return "joint training merges nothing"
    if replace(run.config.method, sequential=True, start=None) != MethodConfig():
        return "trained with a penalty against forgetting"
    if not any(row.split == "validation" for row in run.sweep):
        return "no scales were swept on validation images"
    return ""


def _benchmark(config: ExperimentConfig) -> ExperimentConfig:
    """The configuration shared by runs of one benchmark; only the names of directories count."""

    def named(path: str | None) -> str | None:
        return Path(path).name if path and Path(path).is_absolute() else path

    setting = setting_of(config)
    source = named(setting.model.source) or setting.model.source
    return replace(
        setting,
        model=replace(setting.model, source=source),
        scenario=replace(setting.scenario, data_dir=named(setting.scenario.data_dir)),
    )
