"""Classes in another order: the rows of classifiers' heads are merged label by label."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.configurations import belonging

_HEAD = re.compile(
    r"(.*\.)?(classifier|score|logits_proj|cls_classifier|distillation_classifier|conv_seg|head|fc"
    r"|class_labels_classifier|(classifier|classification_head)\.(\d+|out_proj))\.(weight|bias)"
)
"""Tensors with one row per class, as transformers' and timm's classifiers call them."""
_NO_LABEL = re.compile(r"LABEL_\d+")


def labels(files: TensorFiles) -> tuple[str, ...]:
    """A model's classes in the order of its head's rows; none where it does not name them.

    From `id2label` or `label2id` of config.json, but for transformers' `LABEL_0`, which names
    nothing.

    Raises:
      UserError: config.json holds no JSON.
    """
    config = belonging(files)
    table = config.get("id2label")
    if not isinstance(table, dict):
        inverse = config.get("label2id")
        table = {v: k for k, v in inverse.items()} if isinstance(inverse, dict) else {}
    try:
        named = {int(number): str(label) for number, label in table.items()}
    except (TypeError, ValueError):
        return ()
    found = tuple(named[i] for i in sorted(named))
    whole = sorted(named) == list(range(len(named))) and len(set(map(_plain, found))) == len(found)
    return found if whole and not all(map(_NO_LABEL.fullmatch, found)) else ()


def heads(files: TensorFiles, merged: Sequence[str], count: int) -> list[str]:
    """Names of the merged tensors that have a row for each of `count` classes.

    Detectors have one row more, for no object.
    """
    either = [*_of_rows(files, merged, count), *_of_rows(files, merged, count + 1)]
    return [name for name in either if _HEAD.fullmatch(name)]


def _of_rows(files: TensorFiles, merged: Sequence[str], count: int) -> list[str]:
    """Merged tensors of so many rows, but for embeddings of tokens and their kinds."""
    shapes = {name: files.tensors[name].shape for name in merged if "embed" not in name}
    return [name for name, shape in shapes.items() if shape[:1] == (count,)]


def reference(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> tuple[str, ...]:
    """The order of the output's classes: theta_0's, or the first model's that names them.

    Raises:
      UserError: a config.json holds no JSON.
    """
    return next(filter(None, map(labels, (pretrained, *models))), ())


def to_write(
    pretrained: TensorFiles, models: Sequence[TensorFiles], merged: Sequence[str]
) -> tuple[str, ...]:
    """The labels that the output's configuration lacks: the models', where theta_0 names none."""
    found = reference(pretrained, models)
    return found if not labels(pretrained) and heads(pretrained, merged, len(found)) else ()


def in_order(
    pretrained: TensorFiles, models: Sequence[TensorFiles], merged: Sequence[str]
) -> tuple[list[TensorFiles], list[str], list[str]]:
    """Models whose heads have their rows in one order; problems; notes.

    Args:
      merged: names of tensors that are merged.

    Raises:
      UserError: a config.json holds no JSON.
    """
    wanted = reference(pretrained, models)
    ordered, problems, notes = list(models), [], []
    for i, model in enumerate(models):
        theirs = labels(model)
        rows = heads(pretrained, merged, len(wanted))
        if not theirs or len(theirs) != len(wanted) or theirs == wanted:
            continue
        plain = [_plain(label) for label in theirs]
        if set(plain) != set(map(_plain, wanted)):
            if rows:
                other = next(label for label in theirs if _plain(label) not in _all(wanted))
                problems.append(
                    f"{model.place}: its classes are others than {', '.join(wanted[:3])} (id2label "
                    f"in config.json: {other}), so that rows of {rows[0]} would be merged that "
                    f"mean something else: keep theta_0's with --exclude {' '.join(rows)}"
                )
            continue
        order = tuple(plain.index(_plain(label)) for label in wanted)
        if order == tuple(range(len(order))):
            continue
        ordered[i] = dataclasses.replace(model, tensors=dict(_reordered(model, rows, order)))
        unknown = [n for n in _of_rows(pretrained, merged, len(order)) if n not in rows]
        if rows or unknown:
            what = f"rows of {', '.join(rows)} are merged label by label" if rows else (
                f"if {unknown[0]} is its head, its rows are merged with those of other classes, "
                "unless --exclude keeps theta_0's"
            )  # fmt: skip
            notes.append(
                f"{model.place} has its classes in another order (id2label in config.json): {what}"
            )
    if to_write(pretrained, models, merged):
        notes.append(f"the output has the models' labels (id2label): {', '.join(wanted[:3])}, ...")
    return ordered, problems, notes


def _reordered(
    model: TensorFiles, rows: Sequence[str], order: tuple[int, ...]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.tensors.items():
        if name in rows and tensor.shape[:1]:
            rest = tuple(range(len(order), tensor.shape[0]))
            yield name, tensor._replace(rows=order + rest)
        else:
            yield name, tensor


def _plain(label: str) -> str:
    """A label however it is spelled: `Great_White Shark` is `great white shark`."""
    return " ".join(label.casefold().replace("_", " ").split())


def _all(names: Sequence[str]) -> set[str]:
    return set(map(_plain, names))
