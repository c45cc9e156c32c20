"""The vocabulary of conversion tables: how our parameters are made from Hugging Face's tensors.

Ours differ in three ways that make matmuls fast: kernels are stored (in, out); query, key and value
are one kernel; and the parameters of a tower's blocks are stacked over layers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Transform(NamedTuple):
    """How one of our parameters is made from Hugging Face's tensors, and vice versa.

    Attributes:
      join: Hugging Face's tensors -> ours.
      split: ours -> Hugging Face's.
      maps: number of linear maps whose kernels lie side by side along our last axis; 0 for anything
        that matrix rules do not treat as a linear map: tables, vectors, and convolutions.
      table: whether it has two axes and its rows are looked up or added, not multiplied by.
    """

    join: Callable[[list[np.ndarray]], np.ndarray]
    split: Callable[[np.ndarray], list[np.ndarray]]
    maps: int = 0
    table: bool = False


SAME = Transform(lambda w: w[0], lambda k: [k])
TABLE = SAME._replace(table=True)
LINEAR = Transform(lambda w: w[0].T, lambda k: [k.T], maps=1)
QKV_LINEAR = LINEAR._replace(maps=3)
"""Query, key and value, which are one tensor in Hugging Face's, too."""
SCALAR = Transform(lambda w: w[0].reshape(()), lambda k: [k.reshape(1)])
"""A scalar that Hugging Face stores as a vector of length one."""
QKV_KERNEL = Transform(
    lambda w: np.concatenate([x.T for x in w], axis=1),
    lambda k: [x.T for x in np.split(k, 3, axis=1)],
    maps=3,
)
QKV_BIAS = Transform(np.concatenate, lambda k: np.split(k, 3))


def patches(patch: int) -> Transform:
    """A convolution kernel (d, 3, patch, patch) as a matmul kernel (patch * patch * 3, d)."""
    return Transform(
        lambda w: w[0].transpose(2, 3, 1, 0).reshape(-1, len(w[0])),
        lambda k: [k.reshape(patch, patch, 3, -1).transpose(3, 2, 0, 1)],
    )


class Entry(NamedTuple):
    """One of our parameters: its path in the model, and the tensors it is made from."""

    path: str
    names: list[list[str]]
    """Per layer (one for an unstacked parameter), the tensors that `layout` joins."""
    layout: Transform
    stacked: bool


def linear_maps(
    entries: Sequence[Entry], tables: bool = False
) -> tuple[tuple[str, bool, int, int], ...]:
    """The kernels of linear maps among the entries, in the form of matrix rules' `maps`.

    Args:
      tables: include embedding tables, as the published code of some rules does.

    Returns:
      For each, its path, whether it is stacked over layers, how many kernels it holds, and the axis
      of a kernel along which they lie side by side.
    """
    return tuple(
        (entry.path, entry.stacked, entry.layout.maps or 1, 1)
        for entry in entries
        if entry.layout.maps or (tables and entry.layout.table)
    )


def one(path: str, name: str, layout: Transform = SAME) -> Entry:
    """A parameter made from a single tensor."""
    return Entry(path, [[name]], layout, stacked=False)


def norm(path: str, name: str) -> list[Entry]:
    """Scale and bias of a `LayerNorm`."""
    return [one(f"{path}.scale", f"{name}.weight"), one(f"{path}.bias", f"{name}.bias")]


def blocks(path: str, prefix: str, layers: int) -> list[Entry]:
    """All parameters of `layers.transformer.stacked_blocks`.

    Args:
      path: of the stack in our model.
      prefix: of the tensors; layer i's begin with `{prefix}.{i}`.
      layers: number of layers.
    """

    def each(end: str, layout: Transform, *names: str) -> Entry:
        per_layer = [[f"{prefix}.{i}.{name}" for name in names] for i in range(layers)]
        return Entry(f"{path}.{end}", per_layer, layout, stacked=True)

    attention = [f"self_attn.{x}_proj" for x in "qkv"]
    linear = {"attention.out": "self_attn.out_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    return [
        *(each(f"norm{i}.scale", SAME, f"layer_norm{i}.weight") for i in (1, 2)),
        *(each(f"norm{i}.bias", SAME, f"layer_norm{i}.bias") for i in (1, 2)),
        each("attention.qkv.kernel", QKV_KERNEL, *(f"{x}.weight" for x in attention)),
        each("attention.qkv.bias", QKV_BIAS, *(f"{x}.bias" for x in attention)),
        *(each(f"{ours}.kernel", LINEAR, f"{hf}.weight") for ours, hf in linear.items()),
        *(each(f"{ours}.bias", SAME, f"{hf}.bias") for ours, hf in linear.items()),
    ]
