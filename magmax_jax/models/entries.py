"""The vocabulary of conversion tables: how a parameter of ours is made of Hugging Face's tensors.

Ours differ in three ways that make matmuls fast: kernels are stored (in, out), query, key and value
are one kernel, and the parameters of a tower's blocks are stacked over layers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Transform(NamedTuple):
    """How one parameter of ours is made of Hugging Face's tensors, and they of it."""

    join: Callable[[list[np.ndarray]], np.ndarray]
    split: Callable[[np.ndarray], list[np.ndarray]]


SAME = Transform(lambda w: w[0], lambda k: [k])
LINEAR = Transform(lambda w: w[0].T, lambda k: [k.T])
SCALAR = Transform(lambda w: w[0].reshape(()), lambda k: [k.reshape(1)])
"""A number that Hugging Face keeps as a vector of one."""
QKV_KERNEL = Transform(
    lambda w: np.concatenate([x.T for x in w], axis=1),
    lambda k: [x.T for x in np.split(k, 3, axis=1)],
)
QKV_BIAS = Transform(np.concatenate, lambda k: np.split(k, 3))


def patches(patch: int) -> Transform:
    """A convolution's kernel (d, 3, patch, patch) as a matmul's (patch * patch * 3, d)."""
    return Transform(
        lambda w: w[0].transpose(2, 3, 1, 0).reshape(-1, len(w[0])),
        lambda k: [k.reshape(patch, patch, 3, -1).transpose(3, 2, 0, 1)],
    )


class Entry(NamedTuple):
    """One parameter of ours, its path in the model, and the tensors that it is made of."""

    path: str
    names: list[list[str]]
    """Per layer (one for an unstacked parameter), the tensors that `layout` joins."""
    layout: Transform
    stacked: bool


def one(path: str, name: str, layout: Transform = SAME) -> Entry:
    """A parameter that is one tensor."""
    return Entry(path, [[name]], layout, stacked=False)


def norm(path: str, name: str) -> list[Entry]:
    """Scale and bias of a `LayerNorm`."""
    return [one(f"{path}.scale", f"{name}.weight"), one(f"{path}.bias", f"{name}.bias")]


def blocks(path: str, prefix: str, layers: int) -> list[Entry]:
    """All parameters of `layers.transformer.stacked_blocks`.

    Args:
      path: of the stack in our model.
      prefix: of the tensors; layer i's begin with `{prefix}.{i}`.
      layers: how many there are.
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
