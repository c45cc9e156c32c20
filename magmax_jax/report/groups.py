"""Groups of comparable runs: those of one scenario, with short names."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from magmax_jax.config import LAST, ExperimentConfig, MethodConfig
from magmax_jax.data.folder_name import folder_of
from magmax_jax.errors import MAGMAX, Program, counted
from magmax_jax.evaluation.history import History
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.evaluation.rows import protocols
from magmax_jax.evaluation.scales import Scales
from magmax_jax.registry import REGULARIZERS, SCENARIO_KINDS
from magmax_jax.report.items import Column
from magmax_jax.report.runs import Run, independent
from magmax_jax.report.style import FLAT
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

_UNNAMED = (
    "method", "scenario", "mesh", "checkpoint", "merges", "eval_batch_size",
    "evaluate", "train.workers", "train.accumulate", "train.remat", "merging.scales",
)  # fmt: skip
"""Fields and groups of fields that names show differently, or that affect no result."""


MAX_DRAWN = 16
"""Maximum number of models in figures of all models; a larger group shows only the best."""


@dataclass(frozen=True)
class Group:
    """Runs of one scenario."""

    title: str
    runs: Sequence[Run]
    program: Program = MAGMAX
    """Names the commands that the page shows."""

    @property
    def tasks(self) -> list[str]:
        return self.runs[0].tasks

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.runs]

    @cached_property
    def protocols(self) -> tuple[str, ...]:
        """Protocols to show: agnostic, and aware unless it is the same in every run."""
        return max((protocols(run.rows) for run in self.runs), key=len)

    @cached_property
    def labels(self) -> list[str]:
        """Every model of every run, zero_shot last; a model's index determines its colour.

        More than `MAX_DRAWN` models are sorted by their best run's final accuracy, descending.
        """
        best: dict[str, float] = {}
        for _, label, history in self.evaluated("agnostic"):
            accuracy = last_accuracy(history, weighted=True) or 0.0
            best[label] = max(best.get(label, 0.0), accuracy)
        labels = [label for label in best if label not in FLAT]
        if len(labels) > MAX_DRAWN:
            labels.sort(key=lambda label: (label != FINETUNED, -best[label]))
        return [*labels, *FLAT]

    @property
    def drawn(self) -> list[str]:
        """Labels of the models shown in figures of all models: `finetuned` and the best."""
        return [label for label in self.labels if label not in FLAT][:MAX_DRAWN] + list(FLAT)

    @property
    def left_out(self) -> str:
        """A sentence for captions of these figures, if they do not show all models."""
        several = len(self.labels) - len(FLAT)
        if several <= MAX_DRAWN:
            return ""
        return (
            f" Shown: the last fine-tuned model and the best of the other {several - 1}; the "
            "measures above have all."
        )

    def evaluated(self, protocol: str) -> list[tuple[str, str, History]]:
        """Every model by its run's name and its label, with its history.

        Joint training counts as a separate model. The pretrained model, which is the same in most
        runs, is listed once, under the run `pretrained`.
        """
        each = [(run, run.histories(protocol)) for run in self.runs]
        return [(name, label, history) for name, label, history, _ in self._named(each)]

    def compared(self, protocol: str) -> list[tuple[str, str, History, Scales]]:
        """The same, including merges at the finally chosen scales, each with its run's scales."""
        found = self._named([(run, run.beside(protocol)) for run in self.runs])
        return [(name, label, history, run.scales) for name, label, history, run in found]

    def _named(
        self, each: Sequence[tuple[Run, dict[str, History]]]
    ) -> list[tuple[str, str, History, Run]]:
        found: list[tuple[str, str, History, Run]] = []
        pretrained: list[np.ndarray] = []
        for run, histories in each:
            for label, history in histories.items():
                if label == ZERO_SHOT:
                    if not any(np.array_equal(history.accuracy[0], h) for h in pretrained):
                        pretrained.append(history.accuracy[0])
                        name = "pretrained" if len(self.runs) > 1 else run.name
                        found.append((name, label, history, run))
                else:
                    found.append((run.name, run.shown(label), history, run))
        return found

    @property
    def run_columns(self) -> list[Column]:
        """A table's run column, if there are several runs."""
        return [Column("run", "Run")] if len(self.runs) > 1 else []

    def independent(self, name: str, protocol: str) -> History | None:
        """`finetuned` of a run that learned each task alone; with that run's seed, if any."""
        seeds = {run.name: run.config.seed for run in self.runs}
        return independent(self.runs, seeds.get(name), protocol)


def grouped(runs: Sequence[Run], program: Program = MAGMAX) -> list[Group]:
    """Runs grouped by scenario, in order of first appearance; every run gets a name."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(_scenario(run), []).append(run)
    groups = []
    for members in found.values():
        names = short_names([run.config for run in members])
        named = [replace(run, name=name) for run, name in zip(members, names, strict=True)]
        groups.append(Group(_title(members), named, program))
    titles = [group.title for group in groups]
    return [
        replace(g, title=g.title if titles.count(g.title) == 1 else f"{g.title} ({number})")
        for number, g in enumerate(groups, start=1)
    ]


def short_names(configs: Sequence[ExperimentConfig]) -> list[str]:
    """Distinct names for configurations: the method, and the fields in which they differ.

    If they differ in nothing that affects results, a number is added.
    """
    flat = [dict(fields(config)) for config in configs]
    differing = [
        name
        for name in flat[0]
        if len({facts[name] for facts in flat}) > 1 and not name.startswith(_UNNAMED)
    ]
    names = []
    for config, facts in zip(configs, flat, strict=True):
        details = [_shown_difference(name, facts[name]) for name in differing]
        names.append(", ".join([_method(config), *details]))
    times, before = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        before[name] += 1
        numbered.append(name if times[name] == 1 else f"{name} ({before[name]})")
    return numbered


def fields(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    """Every field by its dotted name, with its value as JSON."""

    def walk(value: Any, where: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, f"{where}.{name}" if where else name)
        else:
            yield where, json.dumps(value, ensure_ascii=False)

    return walk(dataclasses.asdict(config), "")


def _shown_difference(name: str, value: str) -> str:
    shown = {"null": "none"}.get(value, value.replace('"', ""))
    return f"{name.rpartition('.')[2]} {shown}"


def _method(config: ExperimentConfig) -> str:
    method = config.method
    name = "joint" if method.joint else method.start_title
    title = REGULARIZERS[method.regularizer].title
    if title is None:
        return name
    images = method.fisher_images
    rest = [
        method.fisher if method.fisher != MethodConfig.fisher else None,
        None if images is None else f"of {counted(images, 'image')}",
        method.strength,
    ]
    details = " ".join(str(value) for value in rest if value is not None)
    return (title if method.starts_from == LAST else f"{title}, {name}") + (
        f" {details}" if details else ""
    )


def _scenario(run: Run) -> tuple:
    """What runs must share to be compared: the data and how it is divided."""
    scenario = run.config.scenario
    own = SCENARIO_KINDS[scenario.kind].data(scenario)
    where = folder_of(scenario.dataset, scenario.data_dir)
    return scenario.kind, own, where, scenario.limit_per_class, tuple(run.tasks)


def _title(runs: Sequence[Run]) -> str:
    config, tasks = runs[0].config.scenario, len(runs[0].tasks)
    recorded = [run.about["scenario"] for run in runs if "scenario" in run.about]
    if recorded:
        title = f"{recorded[0]}, {counted(tasks, 'task')}"
    elif (kind := SCENARIO_KINDS[config.kind]).reads_several:
        title = f"{tasks} {kind.parts}"
    else:
        title = f"{kind.name([config.dataset])}, {counted(tasks, 'task')}"
    limit = config.limit_per_class
    return title if limit is None else f"{title}, {counted(limit, 'image')} a class"
