"""Matches models to theta_0: one set of names, and a decision on tensors that only some have.

`--include` and `--exclude` apply to all of them: unselected tensors cause no problems. Of the rest,
tensors that are by nature not learned or not shared (buffers, heads, averaged copies, tied copies)
are left out or kept with a note; `compare` refuses everything else.
"""

import dataclasses
import glob
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from magmax_jax.errors import some
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import compare, parts, patterns, rename, tied_embeddings, unmerged
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.names import Reading, read_as
from magmax_jax.merge_files.remedy import remedy


@dataclass(frozen=True)
class Fit:
    """What is merged, and any problems.

    Attributes:
      models: under theta_0's names, without what is left out.
      merged: names of tensors that are merged.
      twins: by merged name, the names of tied copies that are written with its values.
      remedy: flags that resolve the problems of single tensors, if there are any.
    """

    models: list[TensorFiles]
    merged: list[str]
    twins: dict[str, tuple[str, ...]]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remedy: str = ""


def fit(
    pretrained: TensorFiles, opened: Sequence[TensorFiles], job: Job, state: TensorFiles | None
) -> Fit:
    """Maps models to theta_0's names and decides what is merged.

    Args:
      opened: the models as stored in their files.
      state: the previous state; tensors that it was started with stay merged.

    Raises:
      UserError: a rule of `--rename` is invalid, or a file cannot be read.
    """
    ours = pretrained.tensors
    in_state = state.tensors if state else {}
    rules = [rename.parse(text) for text in job.rename]
    renamed, problems, notes = rename.rename_all(opened, rules, ours)
    problems += _useless_patterns(pretrained, [*opened, *renamed], job)
    merged, others = compare.choose(pretrained, job.include, job.exclude)
    buffers = {
        name for name in merged if parts.is_buffer(name, ours[name]) and f"0/{name}" not in in_state
    }
    merged = [name for name in merged if name not in buffers]
    readings = [
        read_as(pretrained, _without_excluded(model, ours, job.exclude), merged, _optional)
        for model in renamed
    ]
    clear = [not reading.ambiguous for reading in readings]
    found = [reading.files for reading in readings]
    tied = tied_embeddings.settle(pretrained, found, merged, in_state)
    our_parts = {name: _part(name, ours) for name in ours}
    models, left_out = _without_extras(our_parts, tied.models, job)
    # A model without a head does not get a part of it by being tied.
    lacking = _absent_parts(our_parts, merged, found, in_state)
    if all(our_parts[name] in lacking for name in merged):
        lacking = set()  # nothing else is selected
    merged = [name for name in merged if our_parts[name] not in lacking]
    twins = {name: names for name, names in tied.twins.items() if name in merged}
    copies = {name for names in twins.values() for name in names}
    merged = [name for name in merged if name not in copies]
    problems += _ambiguous(readings)
    problems += compare.problems(
        pretrained, [model for model, fits in zip(models, clear, strict=True) if fits], merged
    )
    problems += unmerged.complex_problems(pretrained, models, others)
    notes += [*_how_read(readings), *tied.notes, *left_out]
    if buffers:
        notes.append(f"theta_0's are kept, as they are not learned: {some(sorted(buffers))}")
    if lacking:
        shown = some([f"{part}.*" for part in sorted(lacking)])
        notes.append(f"theta_0's are kept, as no model has them: {shown}")
    notes += compare.notes(pretrained, models, merged, others)
    return Fit(
        models=models,
        merged=merged,
        twins=twins,
        problems=problems,
        notes=notes,
        remedy=remedy(pretrained, models, merged, job) if all(clear) else "",
    )


def _useless_patterns(
    pretrained: TensorFiles, models: Sequence[TensorFiles], job: Job
) -> Iterator[str]:
    """Patterns that match nothing; tensors that only models have may be excluded, not merged."""
    ours = list(pretrained.tensors)
    anywhere = [*ours, *(name for model in models for name in model.tensors)]
    for given, names in ((job.include, ours), (job.exclude, anywhere)):
        for pattern in given:
            if not any(patterns.matches(name, [pattern]) for name in names):
                literal = glob.escape(pattern)
                why = f": write {literal!r} for the tensor {pattern}" if pattern in names else ""
                yield f"the pattern {pattern!r} matches no tensor of {pretrained.place}{why}"


def _without_excluded(
    model: TensorFiles, ours: Collection[str], exclude: Sequence[str]
) -> TensorFiles:
    """The model without tensors excluded under the model's own names."""
    dropped = {
        name for name in model.tensors if name not in ours and patterns.matches(name, exclude)
    }
    return _without(model, dropped)


def _without(model: TensorFiles, names: Collection[str]) -> TensorFiles:
    if not names:
        return model
    tensors = {name: tensor for name, tensor in model.tensors.items() if name not in names}
    return dataclasses.replace(model, tensors=tensors)


def _optional(name: str, files: TensorFiles) -> bool:
    """Whether a checkpoint may hold this tensor while another of the same model does not."""
    return (
        parts.is_buffer(name, files.tensors[name])
        or _part(name, files.tensors) is not None
        or tied_embeddings.is_output_embedding(name)
    )


def _part(name: str, names: Collection[str]) -> str | None:
    """The head or moving average that a tensor belongs to, None for the model itself."""
    return name.partition(".")[0] if parts.is_averaged(name) else parts.head(name, names)


def _ambiguous(readings: Iterable[Reading]) -> Iterator[str]:
    for reading in readings:
        if reading.ambiguous:
            choices = " or ".join(f"--rename {shlex.quote(rule)}" for rule in reading.ambiguous)
            yield f"{reading.files.place}: theta_0's names fit it in several ways: give {choices}"


def _how_read(readings: Iterable[Reading]) -> Iterator[str]:
    """How names were mapped, one line for all models mapped the same way."""
    places: dict[str, list[str]] = {}
    for reading in readings:
        if reading.how:
            places.setdefault(reading.how, []).append(str(reading.files.place))
    for how, same in places.items():
        yield f"reads names of {some(same)} {how}"


def _without_extras(
    ours: Mapping[str, str | None], models: Sequence[TensorFiles], job: Job
) -> tuple[list[TensorFiles], list[str]]:
    """The models without unselected tensors and those theta_0 need not have; notes on the latter.

    Args:
      ours: the parts of theta_0's tensors, by name.
    """
    our_parts = set(ours.values())
    places: dict[str, list[str]] = {}
    fitted = []
    for model in models:
        outside: set[str] = set()
        shown: dict[str, None] = {}
        for name, tensor in model.tensors.items():
            if name in ours:
                continue
            part = _part(name, model.tensors)
            counts = tensor.dtype == bool or np.issubdtype(tensor.dtype, np.integer)
            if not patterns.chosen(name, job.include, job.exclude):
                outside.add(name)
            elif counts or parts.is_buffer(name, tensor) or (part and part not in our_parts):
                outside.add(name)
                shown[f"{part}.*" if part else name] = None
        if shown:
            places.setdefault(some(list(shown)), []).append(str(model.place))
        fitted.append(_without(model, outside))
    notes = [
        f"left out of {some(same)}, as theta_0 lacks them: {names}"
        for names, same in places.items()
    ]
    return fitted, notes


def _absent_parts(
    ours: Mapping[str, str | None],
    merged: Sequence[str],
    models: Sequence[TensorFiles],
    in_state: Collection[str],
) -> set[str]:
    """Heads and moving averages that no model has, or that the state was started without."""
    if in_state:
        there: Iterable[str] = (name for name in merged if f"0/{name}" in in_state)
    elif models:
        there = (name for model in models for name in model.tensors if name in ours)
    else:  # none could be read
        there = merged
    absent = {ours[name] for name in merged} - {ours[name] for name in there}
    return {part for part in absent if part}
