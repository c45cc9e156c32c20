"""Plans a merge from headers only.

The rule is built once local files fit together or, since a wrong option should not have to wait for
a download, before the first of these. None of it imports JAX, which takes most of a merge's start,
except a user's own rule and the layout of a state.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.safetensors.reader import TensorFiles, open_tensors
from magmax_jax.io.safetensors.writer import TensorSpecs
from magmax_jax.merge_files import beside, dequantise, state, whole_weights
from magmax_jax.merge_files.fit import Fit, fit
from magmax_jax.merge_files.job import Job, begin
from magmax_jax.merge_files.lora import sources as lora
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.recipes import rounded
from magmax_jax.merge_files.rule_limits import check_state_possible, unfit_models


def make_plan(job: Job, open_source: Callable[[str], TensorFiles] = open_tensors) -> Plan:
    """Reads all headers. Unreadable or mismatched sources are listed as problems.

    Args:
      job: what to merge, and how.
      open_source: opens a source named in the job.

    Raises:
      UserError: the job contradicts itself or the state, or its rule cannot keep a state in a file.
    """
    history, before = begin(job)
    build = functools.cache(functools.partial(history.build_rule, kept=job.state is not None))
    problems: list[str] = []
    notes: list[str] = []
    layout: TensorSpecs = {}
    sources = [history.pretrained, *job.finetuned]
    downloads = any(hub.may_download(source) for source in sources)
    early = job.recipe is None and (job.state is not None or downloads)
    if early:
        rule = build()
        if job.state:
            check_state_possible(history.rule, rule)
    open_source = lora.opening(whole_weights.opening(open_source, job))
    if job.recipe:
        open_source = rounded.opening(open_source, job.recipe.dtype)
    first, *opened = _open_all(sources, open_source, problems)
    first, opened = lora.resolve(job, first, opened, problems, notes)
    pretrained = first or TensorFiles(Path(history.pretrained), (), {}, {})
    models = [model for model in opened if model is not None]
    fitted = Fit(models, [], {})
    donor, classes = None, history.labels
    recipe = None
    if job.recipe is not None:
        from magmax_jax.merge_files.recipes.rule import RecipeRule

        recipe = RecipeRule(job.recipe, pretrained.tensors, history.seed)
        build = functools.cache(recipe.build)
        build()
    if pretrained.files:  # otherwise there is nothing to compare with
        notes += dequantise.notes(pretrained, models)
        notes += whole_weights.notes(pretrained, models)
        fitted = fit(pretrained, models, job, before)
        problems += fitted.problems
        notes += fitted.notes
        if job.lora_rank is None:  # an adapter's only companion is its configuration
            found = beside.look(
                pretrained, fitted.models, fitted.merged, classes, job.companions_from
            )
            fitted = replace(fitted, models=found.models)
            donor, classes = found.chosen, found.labels
            problems += found.problems
            notes += found.notes
    merged = fitted.merged
    parameters: tuple[str, ...] = ()
    if recipe:
        problems += recipe.problems(merged)
        notes += recipe.notes(merged)
        parameters = tuple(recipe.describe())
        history = replace(history, options=recipe.options())
    if job.scale is not None and not math.isfinite(job.scale):
        problems.append(f"--scale is {job.scale}: give a finite number")
    elif job.scale is not None and abs(job.scale) > float(np.finfo(np.float32).max):
        problems.append(f"--scale is {job.scale}, which exceeds float32: give a smaller number")
    if early or recipe or not problems:
        problems += unfit_models(job, history, build())
    if job.state and pretrained.files:
        layout = state.layout(build(), merged, pretrained)
        if before:
            problems += state.differences(before, layout, job.state)
    if not problems and build().scope == "model":
        notes.append(
            f"{history.rule} does not declare that it works tensor by tensor (MergeRule.scope), so "
            "all tensors are in memory at once"
        )
    chosen = {*merged, *(copy for copies in fitted.twins.values() for copy in copies)}
    # An adapter's matrices are rounded, not the tensors they are computed from.
    out_dtype = job.out_dtype if job.lora_rank is None else "float32"
    dtypes = dict.fromkeys(chosen, np.dtype(out_dtype)) if out_dtype else {}
    if recipe and not out_dtype:
        dtypes = rounded.promoted(chosen, pretrained, fitted.models)
        one = rounded.common(dtypes.values(), [pretrained.tensors[name] for name in chosen])
        job = replace(job, out_dtype=one)
    if job.lora_rank is None:
        dtypes |= dequantise.out_dtypes(pretrained, job.out_dtype)
    return Plan(
        job=job,
        history=history,
        build=build,
        pretrained=pretrained,
        models=tuple(fitted.models),
        state=before,
        merged=merged,
        kept=[name for name in pretrained.tensors if name not in chosen],
        out_dtypes={name: t.dtype for name, t in pretrained.tensors.items()} | dtypes,
        state_layout=layout,
        problems=problems,
        notes=notes,
        companions=donor,
        labels=classes,
        parameters=parameters,
        twins=fitted.twins,
        remedy=fitted.remedy,
    )


def _open_all(
    sources: Sequence[str], open_source: Callable[[str], TensorFiles], problems: list[str]
) -> list[TensorFiles | None]:
    """Every source's headers; None if they cannot be read, with the reason in `problems`."""
    opened: list[TensorFiles | None] = []
    for source in sources:
        try:
            opened.append(open_source(source))
        except UserError as error:
            opened.append(None)
            problems.append(str(error))
    return opened
