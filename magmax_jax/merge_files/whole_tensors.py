"""Reads whole tensors of one shape, stacked for a rule, and refuses broken ones."""

from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.merge_files.outcome import differences, hidden, sound
from magmax_jax.merging import MergeRule
from magmax_jax.merging.rule import State

Tree = dict[str, jax.Array]


def read_group(
    pretrained: TensorFiles,
    models: Iterable[TensorFiles],
    names: Sequence[str],
    reader: Reader,
    rule: MergeRule,
) -> tuple[Tree, Iterator[Tree]]:
    """Tensors of one shape of theta_0 and, read lazily, of every task vector, stacked.

    Each is a float32 tree of one leaf (n, *shape): under its name for a rule that reads names, else
    under a common name, so that tensors of the same shape share compiled code.
    """
    key = names[0] if rule.reads_names else "tensor"
    stored = read(pretrained, names, reader)
    check_finite(pretrained, names, stored, stored)
    taus = (task_vectors(model, names, stored, read(model, names, reader)) for model in models)
    return {key: jnp.asarray(stored.astype(np.float32))}, ({key: jnp.asarray(t)} for t in taus)


def read(
    source: TensorFiles, names: Sequence[str], reader: Reader, memory: np.ndarray | None = None
) -> np.ndarray:
    """Tensors of one shape and dtype, stacked: (n, *shape).

    Args:
      memory: an earlier result for these names, from any source, to be overwritten.
    """
    first = source.tensors[names[0]]
    out = memory
    if out is None or out.dtype != first.dtype:
        out = np.empty((len(names), *first.shape), first.dtype)
    for row, name in zip(out.reshape(len(names), first.size), names, strict=True):
        reader.into(row, source.tensors[name])
    return out


def read_state(files: TensorFiles, names: Sequence[str], like: State, reader: Reader) -> State:
    """The stored state of a group, in the structure and shapes of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    found = [
        read(files, [f"{i}/{name}" for name in names], reader).reshape(leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, map(jnp.asarray, found))


def task_vectors(
    model: TensorFiles, names: Sequence[str], theta_0: np.ndarray, theta: np.ndarray
) -> np.ndarray:
    """The task vectors of a group, float32.

    Raises:
      UserError: an entry is not finite, or the difference is not.
    """
    (tau,) = differences(theta_0, [theta])
    if not np.isfinite(tau).all():
        check_finite(model, names, theta, theta_0)
        raise UserError(
            f"{model.place}: the difference from theta_0 in {names[0]} exceeds float32: one of the "
            "two is broken"
        )
    return tau


def check_finite(
    source: TensorFiles, names: Sequence[str], theta: np.ndarray, theta_0: np.ndarray
) -> None:
    if np.isfinite(theta).all():
        return
    for name, row, base in zip(names, theta, theta_0, strict=True):
        if not sound(row, base).all():
            raise UserError(
                f"{source.place}: {name} is not finite, so this model is broken: fetch it again, "
                f"or keep theta_0's with --exclude {name}"
            )


def unmasked(theta: np.ndarray) -> jax.Array:
    """In float32, with zero where it is -inf: no model differs there."""
    return jnp.asarray(np.where(hidden(theta), 0, theta.astype(np.float32)))
