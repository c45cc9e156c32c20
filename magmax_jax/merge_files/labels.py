"""Classes in different orders: rows of classifier heads are merged label by label."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from magmax_jax.io.safetensors.computed import Computed, Read
from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.configurations import belonging

_HEAD = re.compile(
    r"(.*\.)?(classifier|score|logits_proj|cls_classifier|distillation_classifier|conv_seg|head|fc"
    r"|class_labels_classifier|(classifier|classification_head)\.(\d+|out_proj))\.(weight|bias)"
)
"""Tensors with one row per class, under transformers' and timm's names."""
_NO_LABEL = re.compile(r"LABEL_\d+")


def labels(files: TensorFiles) -> tuple[str, ...]:
    """A model's classes in the order of its head's rows; empty if it does not name them.

    From `id2label` or `label2id` of config.json, or timm's `label_names`, except transformers'
    placeholder `LABEL_0`.

    Raises:
      UserError: config.json is not JSON.
    """
    config = belonging(files)
    table = config.get("id2label")
    if isinstance(config.get("label_names"), list):
        table = dict(enumerate(config["label_names"]))
    if not isinstance(table, dict):
        inverse = config.get("label2id")
        table = {v: k for k, v in inverse.items()} if isinstance(inverse, dict) else {}
    try:
        named = {int(number): str(label) for number, label in table.items()}
    except (TypeError, ValueError):
        return ()
    found = tuple(named[i] for i in sorted(named))
    whole = sorted(named) == list(range(len(named))) and len(_plain(found)) == len(found)
    return found if whole and not all(map(_NO_LABEL.fullmatch, found)) else ()


def heads(files: TensorFiles, merged: Sequence[str], count: int) -> list[str]:
    """Names of the merged tensors that have a row for each of `count` classes.

    Detectors have one extra row, for "no object".
    """
    either = [*_of_rows(files, merged, count), *_of_rows(files, merged, count + 1)]
    return [name for name in either if _HEAD.fullmatch(name)]


def _of_rows(files: TensorFiles, merged: Sequence[str], count: int) -> list[str]:
    """Merged tensors with `count` rows, except embeddings of tokens and token types."""
    shapes = {name: files.tensors[name].shape for name in merged if "embed" not in name}
    return [name for name, shape in shapes.items() if shape[:1] == (count,)]


class InOrder(NamedTuple):
    """Models whose heads have their rows in the same order."""

    models: list[TensorFiles]
    labels: tuple[str, ...]
    """Labels of the output's rows; none if no head is merged, or no model names its classes."""
    problems: list[str]
    notes: list[str]


def in_order(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    known: tuple[str, ...] = (),
) -> InOrder:
    """Reorders the rows of heads to match the state, theta_0 or the first model.

    Args:
      merged: names of tensors that are merged.
      known: order of the previously merged models, from a state.

    Raises:
      UserError: a config.json is not JSON.
    """
    wanted = known or _reference(pretrained, models)
    rows = heads(pretrained, merged, len(wanted)) if wanted else []
    shown = ", ".join(wanted[:3]) + (", ..." if len(wanted) > 3 else "")
    ordered, problems, notes = list(models), [], []
    for i, model in enumerate(models):
        theirs = labels(model)
        if len(theirs) != len(wanted) or theirs == wanted:
            continue
        if _plain(theirs) != _plain(wanted):
            if rows:
                problems.append(
                    f"{model.place}: its classes ({', '.join(theirs[:3])}) differ from {shown} "
                    f"(id2label in config.json), so rows of {rows[0]} mean something else: keep "
                    f"theta_0's with --exclude {' '.join(rows)}"
                )
            continue
        place = {_spelled(label): row for row, label in enumerate(theirs)}
        order = tuple(place[_spelled(label)] for label in wanted)
        if order == tuple(range(len(order))):
            continue
        ordered[i] = dataclasses.replace(model, tensors=dict(_reordered(model, rows, order)))
        unknown = [n for n in _of_rows(pretrained, merged, len(order)) if n not in rows]
        what = f"{model.place} has its classes in another order (id2label in config.json)"
        if rows:
            notes.append(f"{what}: rows of {', '.join(rows)} are merged label by label")
        elif unknown:
            notes.append(
                f"{what}: if {unknown[0]} is its head, rows of different classes are merged, "
                "unless --exclude keeps theta_0's"
            )
    ours = labels(pretrained)
    if rows and _plain(ours) != _plain(wanted):
        other = f"; theta_0's are {', '.join(ours[:3])}" if ours else ""
        notes.append(f"the output has the models' labels (id2label): {shown}{other}")
    return InOrder(ordered, wanted if rows else (), problems, notes)


def _reference(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> tuple[str, ...]:
    """theta_0's labels if the models' are the same, in any order; else the first model's."""
    ours, theirs = labels(pretrained), next(filter(None, map(labels, models)), ())
    return ours if not theirs or _plain(ours) == _plain(theirs) else theirs


def _reordered(
    model: TensorFiles, heads: Sequence[str], order: tuple[int, ...]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.tensors.items():
        rows = tensor.shape[0] if name in heads and tensor.shape else 0
        if rows < len(order):  # no head, or another shape, which is reported elsewhere
            yield name, tensor
        else:
            yield name, in_rows(tensor, order + tuple(range(len(order), rows)))


def in_rows(tensor: Tensor, rows: Sequence[int]) -> Computed:
    """A tensor with its rows permuted, read row by row.

    Args:
      rows: for each row, the index of the tensor's row; a permutation.
    """
    width = tensor.size // len(rows)

    def fill(out: np.ndarray, start: int, read: Read) -> None:
        filled = 0
        while filled < out.size:
            row, column = divmod(start + filled, width)
            count = min(width - column, out.size - filled)
            read(out[filled : filled + count], tensor, rows[row] * width + column)
            filled += count

    return Computed(tensor.path, tensor.dtype, tensor.shape, fill)


def _spelled(label: str) -> str:
    """A label in normalised spelling: `Great_White Shark` is `great white shark`."""
    return " ".join(label.casefold().replace("_", " ").split())


def _plain(names: Sequence[str]) -> set[str]:
    return set(map(_spelled, names))
