"""How the headers of fine-tuned models compare with theta_0's."""

import fnmatch
from collections.abc import Iterator, Sequence

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import tied_embeddings

MERGED = {np.dtype(name) for name in ("float64", "float32", "float16", "bfloat16")}
"""Dtypes that take part in merging; tensors of others are theta_0's."""


def choose(
    pretrained: TensorFiles, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Names of theta_0's tensors that are wanted: those that are merged, and those that cannot be.

    Args:
      include: shell patterns of names that are merged; none means all.
      exclude: patterns of names that are kept as theta_0 has them.
    """

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    merged: list[str] = []
    others: list[str] = []
    for name, tensor in pretrained.tensors.items():
        if (not include or matches(name, include)) and not matches(name, exclude):
            (merged if tensor.dtype in MERGED else others).append(name)
    return merged, others


def problems(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    patterns: Sequence[str] = (),
) -> Iterator[str]:
    """Why these models cannot be merged.

    Args:
      merged: names of tensors, as `choose` found them.
      patterns: by which they were chosen.
    """
    try:
        read_object(pretrained.directory / "config.json")
    except UserError as error:  # the output would have it too
        yield str(error)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in pretrained.tensors):
            yield f"the pattern {pattern!r} matches no tensor of {pretrained.place}"
    if not merged:
        yield f"{pretrained.place} holds no floating-point tensor to merge"
    for model in models:
        yield from _differences(pretrained, model, merged)


def notes(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    others: Sequence[str],
) -> Iterator[str]:
    """What is allowed, but rarely meant: models named twice, tensors that stay, other dtypes."""
    yield from _repeats(pretrained, models)
    if others:
        yield f"not floating-point, so theta_0's are kept: {_some(others)}"
    for model in models:
        differing = [
            name
            for name in merged
            if name in model.tensors and model.tensors[name].dtype != pretrained.tensors[name].dtype
        ]
        if differing:
            yield f"{model.place}: another dtype than theta_0's in {_some(differing)}"


def _differences(
    pretrained: TensorFiles, model: TensorFiles, merged: Sequence[str]
) -> Iterator[str]:
    where = model.place
    for name in merged:
        theirs, ours = model.tensors.get(name), pretrained.tensors[name]
        if theirs is None:
            why = tied_embeddings.why_missing(name, pretrained, model)
            yield f"{where}: {name} is missing{why}"
        elif theirs.shape != ours.shape:
            shapes = f"{list(theirs.shape)}, theta_0's {list(ours.shape)}"
            yield f"{where}: {name} has shape {shapes}"
        elif theirs.dtype not in MERGED:
            yield f"{where}: {name} is {theirs.dtype}, which is not merged"
    for name in model.tensors:
        if name not in pretrained.tensors:
            why = tied_embeddings.why_unexpected(name, model)
            yield f"{where}: {name} is not in theta_0{why}"


def _repeats(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> Iterator[str]:
    theta_0, *places = [
        tuple(path.resolve() for path in files.files) for files in (pretrained, *models)
    ]
    for i, model in enumerate(models):
        if places[i] == theta_0:
            yield f"{model.place} is theta_0 itself: its task vector is zero"
        elif places[i] in places[:i]:
            yield f"{model.place} is named more than once: it counts each time"


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
