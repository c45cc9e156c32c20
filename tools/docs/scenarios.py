"""The page of scenarios: kinds, presets, penalties and metrics."""

import inspect
import sys
from collections.abc import Callable

from magmax_jax.api.presets import PRESETS
from magmax_jax.errors import counted
from magmax_jax.evaluation.metrics import Metric
from magmax_jax.registry import METRICS, REGULARIZERS, SCENARIO_KINDS
from magmax_jax.scenarios import ScenarioKind
from magmax_jax.training import RegularizerSpec
from tools.docs.markdown import docstring, prose, render, table


def page() -> str:
    kinds = [_kind(name, kind) for name, kind in SCENARIO_KINDS.items()]
    presets = [(f"`{name}`", prose(text)) for name, (text, _) in PRESETS.items()]
    penalties = [_penalty(name, spec) for name, spec in REGULARIZERS.items() if not spec.is_plain]
    return render(
        "scenarios.md",
        kinds=table(("kind", "a task is", "division", "fields"), kinds),
        presets=table(("preset", "what it runs"), presets),
        penalties=table(("name", "penalty", "strength", "extra cost", "options"), penalties),
        metrics="\n\n".join(_metric(name, metric) for name, metric in METRICS.items()),
    )


def _module_sentence(function: Callable) -> str:
    """What the module that defines a function says in its first line, after the colon."""
    text = (inspect.getdoc(sys.modules[function.__module__]) or "").split("\n", 1)[0]
    return text.partition(": ")[2].removesuffix(".") or text


def _kind(name: str, kind: ScenarioKind) -> tuple[str, ...]:
    fields = ", ".join(f"`scenario.{field}`" for field in kind.reads)
    division = (inspect.getdoc(kind.divide) or "").split("\n\n")[0]
    return f"`{name}`", prose(_module_sentence(kind.divide)), prose(division), fields


def _penalty(name: str, spec: RegularizerSpec) -> tuple[str, ...]:
    extra = []
    if spec.passes_per_image:
        extra.append(f"{_passes(spec.passes_per_image)} for each training image")
    if spec.passes_per_task:
        extra.append(f"{_passes(spec.passes_per_task)} for each image, once per task")
    return (
        f"`{name}` ({spec.title})",
        prose(_module_sentence(spec.build)),
        "none: set it" if spec.strength is None else f"{spec.strength:g}",
        "; ".join(extra) or "negligible",
        ", ".join(f"`method.{option}`" for option in spec.options),
    )


def _passes(number: int) -> str:
    return counted(number, "forward pass")


def _metric(name: str, metric: Metric) -> str:
    return f"### {metric.title} ({metric.unit}) {{ #{name} }}\n\n{docstring(metric.function)}"
