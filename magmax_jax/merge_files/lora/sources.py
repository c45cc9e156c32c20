"""LoRA adapters among a merge's sources: each is applied to theta_0 to give a model."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import compare, patterns
from magmax_jax.merge_files.job import NO_MODEL, Job
from magmax_jax.merge_files.lora import adapter
from magmax_jax.merge_files.lora.adapter import Adapter
from magmax_jax.merge_files.lora.delta import Product, zero
from magmax_jax.merge_files.lora.names import Rename
from magmax_jax.merge_files.lora.notes import notes_on

Opened = TensorFiles | None
"""A source's tensors; None if it cannot be read."""
_NOTHING = TensorFiles(Path(NO_MODEL), (Path(os.devnull),), {}, {})
"""Stands for no model: it has a file, like every source, but an empty one."""


def opening(open_source: Callable[[str], TensorFiles]) -> Callable[[str], TensorFiles]:
    """`open_source`, but `NO_MODEL` (from `--pretrained`) opens as a source without tensors."""

    def opened(source: str) -> TensorFiles:
        if source == NO_MODEL:
            return _NOTHING
        return open_source(source)

    return opened


def resolve(
    job: Job,
    pretrained: Opened,
    models: Sequence[Opened],
    problems: list[str],
    notes: list[str],
) -> tuple[Opened, list[Opened]]:
    """theta_0 and the models, with adapters applied to theta_0.

    With `--lora-rank` they have only the tensors that adapters change. If theta_0 is not a model,
    or an adapter itself, the tensors are what adapters add.

    Args:
      problems, notes: appended to.
    """
    try:
        first = _sorted(pretrained, job)
    except UserError as error:
        problems.append(str(error))
        return None, list(models)
    found = []
    for model in models:
        try:
            found.append(_sorted(model, job))
        except UserError as error:
            problems.append(str(error))
            found.append(None)
    adapters = [source for source in found if isinstance(source, Adapter)]
    if job.lora_rank is not None:
        problems += _unfit(job.lora_rank, found, adapters)
    if isinstance(first, Adapter) or first is _NOTHING:
        if job.lora_rank is None:
            problems.append(_why_no_model(first))
            return None, list(models)
        return _alone(first, found, problems)
    if first is None or not adapters:
        return first, [None if isinstance(source, Adapter) else source for source in found]
    notes += notes_on(job, first, adapters)
    made = [_applied(source, first, problems, notes) for source in found]
    if job.lora_rank is not None:
        ours = [m if isinstance(s, Adapter) else None for s, m in zip(found, made, strict=True)]
        return _changed_alone(job, first, ours, problems)
    return first, made


def _sorted(files: Opened, job: Job) -> Adapter | Opened:
    return files and (adapter.find(files, job.exclude) or files)


def _unfit(
    rank: int, found: Sequence[Adapter | Opened], adapters: Sequence[Adapter]
) -> Iterator[str]:
    """Reasons why no adapter can be written."""
    if rank < 1:
        yield f"--lora-rank is {rank}: give a positive number"
    for source in found:
        if isinstance(source, TensorFiles):
            yield (
                f"{source.place} is not a LoRA adapter, and --lora-rank merges adapters into one: "
                "leave --lora-rank out to write a whole model"
            )
    if len({source.config.transposed for source in adapters}) > 1:
        yield (
            "the adapters differ in fan_in_fan_out, so no single adapter can hold them: "
            "leave --lora-rank out"
        )


def _why_no_model(first: Adapter | TensorFiles) -> str:
    if isinstance(first, TensorFiles):
        return (
            "--pretrained is not set, so no whole model can be written: name the LoRA adapters' "
            "model as --pretrained, or merge them into an adapter with --lora-rank"
        )
    of = first.config.base or "the model that it was trained on"
    return (
        f"{first.place}, theta_0, is a LoRA adapter, so no whole model can be written: give "
        f"--pretrained {of}, or merge the adapters into one with --lora-rank"
    )


def _alone(
    first: Adapter | TensorFiles, found: Sequence[Adapter | Opened], problems: list[str]
) -> tuple[Opened, list[Opened]]:
    """What the adapters add, over zeros for all tensors that any of them changes."""
    sources: list[Adapter | Opened] = [first, *found]
    deltas: dict[str, Tensor] = {}
    for source in sources:
        if isinstance(source, Adapter):
            deltas = source.deltas() | deltas
    if not deltas:
        return None, [None for _ in found]
    tensors: dict[str, Tensor] = {
        name: Computed(tensor.path, tensor.dtype, tensor.shape, zero)
        for name, tensor in deltas.items()
    }
    zeros = dataclasses.replace(_NOTHING, tensors=tensors)
    made: list[Opened] = []
    for source in sources:
        try:
            made.append(source.alone(zeros) if isinstance(source, Adapter) else None)
        except UserError as error:
            problems.append(str(error))
            made.append(None)
    theta_0, *models = made
    return (theta_0 if isinstance(first, Adapter) else zeros), models


def _applied(
    source: Adapter | Opened, pretrained: TensorFiles, problems: list[str], notes: list[str]
) -> Opened:
    if not isinstance(source, Adapter):
        return source
    try:
        model, rename = source.applied(pretrained)
    except UserError as error:
        problems.append(str(error))
        return None
    if rename != Rename():
        instead = f" in place of {rename.dropped}" if rename.dropped else ""
        notes.append(
            f"{source.place}: its modules are theta_0's with the prefix {rename.added}{instead}"
            if rename.added
            else f"{source.place}: its modules are theta_0's without the prefix {rename.dropped}"
        )
    return model


def _changed_alone(
    job: Job, pretrained: TensorFiles, models: Sequence[Opened], problems: list[str]
) -> tuple[TensorFiles, list[Opened]]:
    """Only the tensors that adapters change by products; problems if they change others.

    Excluded tensors stay too, so that their patterns match something.
    """
    merged, _ = compare.choose(pretrained, job.include, job.exclude)
    changed: dict[str, Tensor] = {}
    for model in models:
        for name, tensor in model.tensors.items() if model else ():
            if isinstance(tensor, Computed) and isinstance(tensor.fill, Product):
                changed[name] = pretrained.tensors[name]
            elif name in merged and tensor != pretrained.tensors[name]:
                problems.append(
                    f"{model and model.place} changes {name} by other means than matrices of LoRA: "
                    f"keep theta_0's with --exclude {name}, or leave --lora-rank out"
                )
    excluded = {name for name in pretrained.tensors if patterns.matches(name, job.exclude)}
    kept = {
        name: tensor
        for name, tensor in pretrained.tensors.items()
        if name in changed or name in excluded
    }
    return dataclasses.replace(pretrained, tensors=kept), [
        model and dataclasses.replace(model, tensors={name: model.tensors[name] for name in kept})
        for model in models
    ]
