"""Converts between Hugging Face's tensors and ours, using a family's table in both directions."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.models.entries import Entry

Tensors = Mapping[str, Callable[[], np.ndarray]]
"""Hugging Face's tensor name -> a function that reads it, so only one is in memory at a time."""

DTYPES = ("float32", "float16", "bfloat16")
"""The dtypes that a checkpoint's tensors may have."""


def from_hf(
    tensors: Tensors,
    entries: Sequence[Entry],
    state: nnx.State,
    where: str,
    buffers: Collection[str] = (),
) -> dict[str, Any]:
    """Our parameters by path, float32, read from Hugging Face's tensors.

    Args:
      tensors: every tensor of the checkpoint.
      entries: every parameter of the model that it should contain.
      state: that model's abstract state; only shapes are used.
      where: the checkpoint's name in messages.
      buffers: tensors that may be present and are ignored.

    Raises:
      UserError: tensors are missing, unexpected, or have a wrong shape or dtype; all are named.
    """
    shapes = hf_shapes(entries, state)
    problems, params = [], {}
    for entry in entries:
        layers = []
        for names in entry.names:
            parts = []
            for name in names:
                problem, tensor = _read(tensors, name, shapes[name])
                problems += problem
                parts += tensor
            if len(parts) == len(names) and not problems:
                layers.append(entry.layout.join(parts))
        if not problems:
            params[entry.path] = np.stack(layers) if entry.stacked else layers[0]
    unexpected = sorted(set(tensors) - set(shapes) - set(buffers))
    problems += [f"unexpected {name}" for name in unexpected]
    if problems:
        raise UserError(
            f"{where}: the tensors are not those of the model that its configuration describes "
            f"({len(problems)} differ); weights and config.json must come from one model:\n  "
            + "\n  ".join(problems)
        )
    return params


def hf_shapes(entries: Sequence[Entry], state: nnx.State) -> dict[str, tuple[int, ...]]:
    """The shapes of Hugging Face's tensors, in the order in which `to_hf` yields them."""
    shapes = {path: leaf.shape for path, leaf in flat(state)}
    found: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        parts = part_shapes(entry, shapes[entry.path])
        for names in entry.names:
            found |= dict(zip(names, parts, strict=True))
    return found


def part_shapes(entry: Entry, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of one layer's tensors of an entry, found by splitting an array without data."""
    ours = np.broadcast_to(np.float32(0), shape[1:] if entry.stacked else shape)
    return [part.shape for part in entry.layout.split(ours)]


def to_hf(entries: Sequence[Entry], state: nnx.State) -> Iterator[tuple[str, np.ndarray]]:
    """Hugging Face's tensors by name, float32, converted from our parameters one at a time."""
    params = dict(flat(state))
    for entry in entries:
        ours = np.asarray(params[entry.path])
        for names, layer in zip(entry.names, ours if entry.stacked else [ours], strict=True):
            for name, tensor in zip(names, entry.layout.split(layer), strict=True):
                yield name, np.asarray(tensor, order="C")


def flat(state: nnx.State) -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted path."""
    for path, leaf in nnx.to_flat_state(state):
        yield ".".join(map(str, path)), leaf.get_value()


def fill(state: nnx.State, params: dict[str, np.ndarray]) -> nnx.State:
    """The abstract `state` with its leaves taken from `params`, on the default device."""
    return nnx.from_flat_state(
        [
            (path, leaf.replace(jnp.asarray(params.pop(".".join(map(str, path))))))
            for path, leaf in nnx.to_flat_state(state)
        ]
    )


def _read(
    tensors: Tensors, name: str, shape: tuple[int, ...]
) -> tuple[list[str], list[np.ndarray]]:
    """The tensor in float32, or a description of what is wrong with it."""
    if name not in tensors:
        return [f"missing {name} {shape}"], []
    tensor = tensors[name]()
    problems = []
    if tensor.dtype.name not in DTYPES:
        problems.append(f"{name} is {tensor.dtype}, not {', '.join(DTYPES)}")
    if tensor.shape != shape and not (tensor.size == 1 and shape in ((), (1,))):
        problems.append(f"{name} has shape {tensor.shape}, not {shape}")
    return problems, [] if problems else [tensor.astype(np.float32, copy=False).reshape(shape)]
