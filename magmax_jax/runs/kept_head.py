"""The zero-shot head, cached in a run's directory: a run encodes every prompt only once."""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import new_file
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.models import Model, zero_shot_head
from magmax_jax.models.zero_shot import prompts, tokenize
from magmax_jax.runs.file_names import HEAD

if TYPE_CHECKING:
    from magmax_jax.scenarios import Head

NAME, KEY, SHA256 = "head", "made_from", "sha256"
"""The tensor, and metadata about it: `KeptHead.made_from`, and a digest of the numbers."""


class KeptHead(NamedTuple):
    """A head and a digest of what it was made from.

    Attributes:
      weights: float32 (p, k).
      made_from: sha256 of the model's configuration, the text tower's parameters and every prompt's
        token ids.
    """

    weights: jax.Array
    made_from: str


def head_of(model: Model, heads: Iterable["Head"], run: Path | None = None) -> KeptHead:
    """The classifiers of all heads side by side, read from a run's directory if it has them.

    A head that was made from other parameters or prompts, or that cannot be read, is recomputed.

    Args:
      run: the directory, if any.

    Raises:
      UserError: as `zero_shot_head` does.
    """
    heads = list(heads)
    made_from = _digest(model, heads)
    if run is not None and (weights := _kept(run, made_from)) is not None:
        return KeptHead(jnp.asarray(weights), made_from)
    made = [zero_shot_head(model, *head) for head in heads]
    return KeptHead(jnp.concatenate(made, axis=1), made_from)


def keep_head(run: Path, weights: jax.Array, made_from: str) -> None:
    """Writes the head of a run atomically, unless it exists.

    Raises:
      OSError: writing fails.
    """
    if _kept(run, made_from) is not None:
        return
    array = np.asarray(weights)
    with new_file(run / HEAD) as partial:
        writer = FileWriter(partial, {NAME: (array.dtype, array.shape)}, metadata_bytes=256)
        try:
            writer.write(NAME, array)
            writer.close({KEY: made_from, SHA256: _sha256(array)})
        except BaseException:
            writer.abandon()
            raise


def _kept(run: Path, made_from: str) -> np.ndarray | None:
    """The head in a run's directory; None if it is missing, damaged or does not match."""
    if (run / HEAD).is_file():
        with contextlib.suppress(UserError, OSError, KeyError):
            files = open_tensors(run / HEAD)
            if files.metadata.get(KEY) == made_from:
                weights = files.load(NAME)
                return weights if files.metadata.get(SHA256) == _sha256(weights) else None
    return None


def _sha256(weights: np.ndarray) -> str:
    """Digest of a head's dtype, shape and numbers."""
    digest = hashlib.sha256(repr((str(weights.dtype), weights.shape)).encode())
    digest.update(np.ascontiguousarray(weights).data)
    return digest.hexdigest()


def _digest(model: Model, heads: Iterable["Head"]) -> str:
    digest = hashlib.sha256(repr(model.config).encode())
    for names, templates in heads:
        ids = tokenize(model, prompts(names, templates))
        digest.update(repr((len(names), len(templates), ids.shape, ids.dtype)).encode())
        digest.update(np.ascontiguousarray(ids).data)
    parameters = (model.text_tower()[1], model.logit_scale[...])
    for path, leaf in jax.tree.leaves_with_path(parameters):
        array = np.asarray(leaf)
        digest.update(repr((jax.tree_util.keystr(path), array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
