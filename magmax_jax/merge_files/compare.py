"""Compares the headers of fine-tuned models with theta_0's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError, counted, some
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.reader import Tensor, TensorFiles
from magmax_jax.merge_files import other_names, patterns, tied_embeddings

MERGED = {np.dtype(name) for name in ("float64", "float32", "float16", "bfloat16")}
"""Dtypes that are merged; tensors of other dtypes are copied from theta_0."""
LISTED = 3
"""Most tensors of one model named one by one; more are summed up in one sentence."""


def choose(
    pretrained: TensorFiles, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Names of the selected tensors of theta_0: those that are merged, and those that cannot be.

    Args:
      include: shell patterns of names to merge; none means all.
      exclude: patterns of names to keep as in theta_0.
    """

    merged: list[str] = []
    others: list[str] = []
    for name, tensor in pretrained.tensors.items():
        if patterns.chosen(name, include, exclude):
            (merged if tensor.dtype in MERGED else others).append(name)
    return merged, others


def problems(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
) -> Iterator[str]:
    """Reasons why these models cannot be merged.

    Args:
      models: under theta_0's names, without tensors that may be left out.
      merged: names of the tensors to merge.
    """
    try:
        read_object(pretrained.directory / "config.json")
    except UserError as error:  # the output would have it as well
        yield str(error)
    if not merged:
        yield f"{pretrained.place} contains no floating-point tensor to merge"
    for model in models:
        yield from _differences(pretrained, model, merged)


def notes(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    others: Sequence[str],
) -> Iterator[str]:
    """Allowed but rarely intended: duplicate models, tensors that stay, different dtypes."""
    yield from _repeats(pretrained, models)
    if others:
        yield f"not floating-point, so theta_0's are kept: {some(others)}"
    for model in models:
        differing = [
            name
            for name in merged
            if name in model.tensors
            and model.tensors[name].dtype != pretrained.tensors[name].dtype
            and not isinstance(model.tensors[name], Computed)
        ]
        if differing:
            yield f"{model.place}: another dtype than theta_0's in {some(differing)}"


def fits(name: str, pretrained: TensorFiles, model: TensorFiles) -> bool:
    """Whether theta_0's tensor can be merged with the model's, if the model has one."""
    ours, theirs = pretrained.tensors.get(name), model.tensors.get(name)
    if ours is None or theirs is None:
        return False
    return theirs.shape == ours.shape and theirs.dtype in MERGED


def _differences(
    pretrained: TensorFiles, model: TensorFiles, merged: Sequence[str]
) -> Iterator[str]:
    where = model.place
    missing = [name for name in merged if name not in model.tensors]
    extra = [name for name in model.tensors if name not in pretrained.tensors]
    if missing and extra:
        why = other_names.explain(pretrained, model, missing, extra)
        many = len(missing) > LISTED and len(extra) > LISTED
        if why is None and many and 2 * len(missing) > len(merged):
            why = other_names.unlike(pretrained, model, missing, extra, len(merged))
        if why is not None:
            yield why
            return
    yield from _each(
        missing,
        lambda name: (
            f"{where}: {name} is missing" + tied_embeddings.why_missing(name, pretrained, model)
        ),
        where,
        "are missing",
    )
    unlike = [
        name for name in merged if name in model.tensors and not fits(name, pretrained, model)
    ]
    yield from _each(
        unlike,
        lambda name: f"{where}: {name} {_unlike(pretrained.tensors[name], model.tensors[name])}",
        where,
        "have other shapes or dtypes than theta_0's",
    )
    yield from _each(
        extra,
        lambda name: (
            f"{where}: {name} is not in theta_0" + tied_embeddings.why_unexpected(name, pretrained)
        ),
        where,
        "are not in theta_0",
    )


def _unlike(ours: Tensor, theirs: Tensor) -> str:
    if theirs.shape == ours.shape:
        return f"is {theirs.dtype}, which is not merged"
    return f"has shape {list(theirs.shape)}, theta_0's {list(ours.shape)}"


def _each(
    names: Sequence[str], say: Callable[[str], str], where: Path, summary: str
) -> Iterator[str]:
    """One sentence per name if there are few, else one for all."""
    if len(names) <= LISTED:
        yield from map(say, names)
    else:
        yield f"{where}: {counted(len(names), 'tensor')} {summary}: {some(names)}"


def _repeats(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> Iterator[str]:
    theta_0, *places = [
        tuple(path.resolve() for path in files.files) for files in (pretrained, *models)
    ]
    before = set()
    for place, model in zip(places, models, strict=True):
        if place == theta_0:
            yield f"{model.place} is theta_0 itself: its task vector is zero"
        elif place in before:
            yield f"{model.place} is named more than once: it counts each time"
        before.add(place)
