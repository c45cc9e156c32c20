"""Reads the files beside weights before a merge: labels, configurations, tokenizers, licences."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import companions, configurations, hub_metadata, labels, tokenizers


class Beside(NamedTuple):
    """What the files beside the weights mean for a merge."""

    models: list[TensorFiles]
    """With the rows of their heads in the same order."""
    problems: list[str]
    notes: list[str]
    labels: tuple[str, ...]
    """Labels of the output's classes, if heads are merged."""
    chosen: Path | None
    """Directory of the model that `--companions-from` names."""


def look(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    known: tuple[str, ...],
    companions_from: str | None,
) -> Beside:
    """Reads only small files; those that cannot be read are listed as problems.

    Args:
      merged: names of tensors that are merged.
      known: labels of previously merged models, from a state.
      companions_from: as the user gave it.
    """
    heads = labels.InOrder(list(models), known, [], [])
    chosen = None
    problems: list[str] = []
    notes: list[str] = []
    try:
        if companions_from is not None:
            chosen = companions.find_chosen(companions_from)
    except UserError as error:
        problems.append(str(error))
    try:
        configurations.belonging(pretrained)
    except UserError:  # reported when the weights are compared
        return Beside(heads.models, problems, notes, known, chosen)
    try:
        heads = labels.in_order(pretrained, models, merged, known)
        problems += heads.problems
        notes += heads.notes
        notes += configurations.notes(pretrained, models)
        notes += tokenizers.notes(pretrained, models, companions_from)
        notes += companions.notes(pretrained)
        notes += hub_metadata.notes([pretrained, *models])
    except UserError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{error.filename} cannot be read ({error.strerror})")
    return Beside(heads.models, problems, notes, heads.labels, chosen)
