"""Finished runs as the paper's table: a column for each setting, a row for each method."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from magmax_jax.config import (
    LAST,
    PRETRAINED,
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    MeshConfig,
    MethodConfig,
    ScenarioConfig,
)
from magmax_jax.evaluation.scales import CHOSEN
from magmax_jax.registry import METRICS, REGULARIZERS, SCENARIO_KINDS
from magmax_jax.report.groups import fields
from magmax_jax.report.published_figures import Figure, figures
from magmax_jax.report.runs import Run, collect, independent
from magmax_jax.runs.completeness import is_whole
from magmax_jax.runs.model_ref import ZERO_SHOT, ModelRef

if TYPE_CHECKING:
    from magmax_jax.scenarios import ScenarioKind

Protocol = Literal["agnostic", "aware"]

MERGES = {
    "average": ("average", 1.0),
    "random_mix": ("random mix", 1.0),
    "ties": ("TIES", 0.55),
    "max_magnitude": ("MagMax", 0.5),
}
"""Rule -> its name in the table and its published scale, in the paper's order."""
ROW_ORDER = (
    "zero-shot",
    "joint",
    "EWC",
    "LwF",
    "sequential fine-tuning",
    *(f"{start}, {name}" for start in ("independent", "sequential") for name, _ in MERGES.values()),
)


@dataclass
class Column:
    """One setting: its values by row and by seed, in per cent."""

    title: str
    setting: ExperimentConfig
    """Configuration shared by all its runs, without the fields in which they differ."""
    values: dict[str, dict[int, float]]
    metric: str = "last_accuracy"

    @property
    def published(self) -> dict[str, Figure]:
        return figures(self.setting, self.metric)


def mean_std(values: Iterable[float]) -> tuple[float, float | None, int]:
    """Mean, standard deviation of the sample (None for one value), and number of values."""
    found = list(values)
    return float(np.mean(found)), float(np.std(found, ddof=1)) if found[1:] else None, len(found)


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in these folders, and notes on the others.

    Raises:
      UserError: a folder does not exist.
    """
    from magmax_jax.runs.merge_specs import names_code, num_models

    def lacking(run: Run) -> str:
        # A table imports no code that a run names; about.json of such a run has its model count.
        own = names_code(run.config)
        models = run.about.get("models", 0) if own else num_models(run.config)
        finished = is_whole(run.config, models, run.rows, lambda: run.sweep)
        return "" if finished else "not finished"

    return collect(paths, lacking)


def columns(runs: Sequence[Run], metric: str, protocol: Protocol | None) -> list[Column]:
    """The table's columns. Joint training appears in the column of every division of its data.

    Args:
      metric: its name in `registry.METRICS`.
      protocol: None is the published one: among all classes; with several data sets, among each
        one's own.
    """
    found: dict[ExperimentConfig, Column] = {}
    alike: dict[ExperimentConfig, list[Run]] = {}
    for run in runs:
        alike.setdefault(setting_of(run.config), []).append(run)
    joint = [run for run in runs if run.config.method.joint]
    whole = protocol != "aware"  # aware accuracy depends on how the data is divided
    for run in runs:
        if not run.config.method.joint:
            key = setting_of(run.config)
            column = found.setdefault(key, Column("", key, {}, metric))
            _enter(column, run, alike.get(column.setting, []), protocol)
    for run in joint:
        identity = _data if whole or _kind(run.config).reads_several else setting_of
        data = identity(run.config)
        same = [column for key, column in found.items() if identity(key) == data]
        if not same:
            key = setting_of(run.config)
            same = [found.setdefault(key, Column("", key, {}, metric))]
        for column in same:
            _enter(column, run, alike.get(column.setting, []), protocol)
    titles = titles_of([column.setting for column in found.values()])
    for column, title in zip(found.values(), titles, strict=True):
        column.title = title
    return sorted(found.values(), key=lambda column: _place(column.setting.scenario))


def row_names(columns: Sequence[Column]) -> list[str]:
    """All rows, in the paper's order; other scales and strengths follow the paper's own."""

    def place(name: str) -> int:
        known = [i for i, row in enumerate(ROW_ORDER) if name.startswith(row)]
        return known[-1] if known else len(ROW_ORDER)

    names = dict.fromkeys(name for column in columns for name in column.values)
    return sorted(names, key=lambda name: (place(name), name))


def _enter(column: Column, run: Run, same: Sequence[Run], protocol: Protocol | None) -> None:
    """Enters a run's values; `same` are the runs of the column's setting."""
    apart = _kind(run.config).task_aware
    chosen = protocol or ("aware" if apart else "agnostic")
    metric, alone = METRICS[column.metric], None
    stream = not run.config.method.joint
    if metric.needs_independent:
        alone = independent(same, run.config.seed, chosen)
    histories = run.beside(chosen)
    named = [
        (_row_name(run.config.method, label), label)
        for label in histories
        if label in run.labels or run.scales.kind(label) != CHOSEN
    ]
    named += [(_chosen_name(run.config.method, one.rule), one.label) for one in run.choices]
    for name, label in named:
        if name is None or (name in column.values and label == ZERO_SHOT and not stream):
            continue
        value = metric.value(histories[label], metric.weighted and not apart, alone)
        if value is not None:
            column.values.setdefault(name, {})[run.config.seed] = 100 * float(value)


def _row_name(method: MethodConfig, label: str) -> str | None:
    """The table's name for a model of a run; None for a model that gets no row."""
    ref = ModelRef.parse(label)
    if ref.is_zero_shot:
        return "zero-shot"
    name, title = _method_name(method), REGULARIZERS[method.regularizer].title
    if ref.is_finetuned:
        if method.joint or title is not None:
            return name
        if method.starts_from == PRETRAINED:
            return None
        return f"{name} fine-tuning" if method.starts_from == LAST else f"{name}, fine-tuning"
    title, published = MERGES.get(ref.name, (ref.name, None))
    return f"{name}, {title}" + ("" if published == ref.scale else f" at {ref.scale:g}")


def _chosen_name(method: MethodConfig, rule: str) -> str:
    """The table's name for a rule at the scale that each run chose; scales may differ by run."""
    title, _ = MERGES.get(rule, (rule, None))
    return f"{_method_name(method)}, {title}, scale chosen on held-out images"


def _method_name(method: MethodConfig) -> str:
    title = REGULARIZERS[method.regularizer].title
    if method.joint:
        name = "joint"
    elif title is not None:
        name = title + ("" if method.starts_from == LAST else f", {method.start_title}")
    else:
        name = method.start_title
    rest = {
        "Fisher": method.fisher if method.fisher != MethodConfig.fisher else None,
        "Fisher images": method.fisher_images,
        "strength": method.strength,
    }
    details = ", ".join(f"{what} {value}" for what, value in rest.items() if value is not None)
    return name + (f" ({details})" if details else "")


def setting_of(config: ExperimentConfig) -> ExperimentConfig:
    """The configuration that a column's runs share: without method, seed and irrelevant fields."""
    return replace(
        config,
        method=MethodConfig(),
        mesh=MeshConfig(),
        checkpoint=CheckpointConfig(),
        train=replace(config.train, workers=0, accumulate=1, remat=False),
        merging=replace(config.merging, scales=None),
        merges=(),
        eval_batch_size=1,
        evaluate="every",
        seed=0,
    )


def _data(config: ExperimentConfig) -> ExperimentConfig:
    """A setting regardless of how its data is divided: what joint training depends on."""
    scenario, default = config.scenario, ScenarioConfig()
    names = ("num_tasks", "allow_unequal", "order", "shuffle_tasks")
    changes: dict[str, Any] = {name: getattr(default, name) for name in names}
    if not _kind(config).reads_several:
        changes["kind"] = default.kind
    return replace(
        setting_of(config), scenario=replace(scenario, **changes), merging=MergingConfig()
    )


def titles_of(settings: Sequence[ExperimentConfig]) -> list[str]:
    """Short titles; equal titles are extended by the fields in which the settings differ."""
    titles = [_title(setting.scenario) for setting in settings]
    facts = [dict(fields(setting)) for setting in settings]
    values: dict[str, dict[str, set[str]]] = {}
    for title, own in zip(titles, facts, strict=True):
        for name, value in own.items():
            values.setdefault(title, {}).setdefault(name, set()).add(value)
    found = []
    for title, own in zip(titles, facts, strict=True):
        names = [name for name in own if len(values[title][name]) > 1]
        details = ", ".join(f"{name} {own[name]}" for name in names).replace('"', "")
        found.append(f"{title} ({details})" if details else title)
    return found


def _title(scenario: ScenarioConfig) -> str:
    from magmax_jax.scenarios import members_of  # also imports the data loaders

    names = [member.name for member in members_of(scenario)]
    return SCENARIO_KINDS[scenario.kind].short_name(scenario, names)


def _place(scenario: ScenarioConfig) -> tuple:
    return list(SCENARIO_KINDS).index(scenario.kind), scenario.dataset, scenario.num_tasks or 0


def _kind(config: ExperimentConfig) -> "ScenarioKind":
    return SCENARIO_KINDS[config.scenario.kind]
