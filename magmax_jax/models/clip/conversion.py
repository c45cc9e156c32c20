"""Between Hugging Face's tensors and ours: one table, read in both directions.

Ours differ in three ways that make matmuls fast: kernels are stored (in, out), query, key and value
are one kernel, and the parameters of a tower's blocks are stacked over layers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.models.clip.config import CLIPConfig

Tensors = Mapping[str, Callable[[], np.ndarray]]
"""Hugging Face's tensor name -> a function that reads it, so that one at a time is in memory."""

DTYPES = ("float32", "float16", "bfloat16")
"""What a checkpoint's tensors may be."""

BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Integer ranges that older checkpoints carry; nothing is learned in them."""


class Transform(NamedTuple):
    """How one parameter of ours is made of Hugging Face's tensors, and they of it."""

    join: Callable[[list[np.ndarray]], np.ndarray]
    split: Callable[[np.ndarray], list[np.ndarray]]


def _patches(patch: int) -> Transform:
    """A convolution's kernel (d, 3, patch, patch) as a matmul's (patch * patch * 3, d)."""
    return Transform(
        lambda w: w[0].transpose(2, 3, 1, 0).reshape(-1, len(w[0])),
        lambda k: [k.reshape(patch, patch, 3, -1).transpose(3, 2, 0, 1)],
    )


SAME = Transform(lambda w: w[0], lambda k: [k])
LINEAR = Transform(lambda w: w[0].T, lambda k: [k.T])
QKV_KERNEL = Transform(
    lambda w: np.concatenate([x.T for x in w], axis=1),
    lambda k: [x.T for x in np.split(k, 3, axis=1)],
)
QKV_BIAS = Transform(np.concatenate, lambda k: np.split(k, 3))


class Entry(NamedTuple):
    """One parameter of ours, its path in the model, and the tensors that it is made of."""

    path: str
    names: list[list[str]]
    """Per layer (one for an unstacked parameter), the tensors that `layout` joins."""
    layout: Transform
    stacked: bool


def table(config: CLIPConfig) -> list[Entry]:
    """Every parameter of the model, in the order of the forward pass."""

    def one(path: str, name: str, layout: Transform = SAME) -> Entry:
        return Entry(path, [[name]], layout, stacked=False)

    def norm(path: str, name: str) -> list[Entry]:
        return [one(f"{path}.scale", f"{name}.weight"), one(f"{path}.bias", f"{name}.bias")]

    def blocks(tower: str, prefix: str, layers: int) -> list[Entry]:
        def each(path: str, layout: Transform, *names: str) -> Entry:
            per_layer = [[f"{prefix}.{i}.{name}" for name in names] for i in range(layers)]
            return Entry(f"{tower}.blocks.{path}", per_layer, layout, stacked=True)

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

    image, text = "vision_model", "text_model"
    return [
        one("vision.class_embedding", f"{image}.embeddings.class_embedding"),
        one(
            "vision.patch_embedding.kernel",
            f"{image}.embeddings.patch_embedding.weight",
            _patches(config.vision.patch_size),
        ),
        one("vision.position_embedding", f"{image}.embeddings.position_embedding.weight"),
        *norm("vision.pre_norm", f"{image}.pre_layrnorm"),  # the published spelling
        *blocks("vision", f"{image}.encoder.layers", config.vision.layers),
        *norm("vision.post_norm", f"{image}.post_layernorm"),
        one("vision.projection.kernel", "visual_projection.weight", LINEAR),
        one("text.token_embedding", f"{text}.embeddings.token_embedding.weight"),
        one("text.position_embedding", f"{text}.embeddings.position_embedding.weight"),
        *blocks("text", f"{text}.encoder.layers", config.text.layers),
        *norm("text.final_norm", f"{text}.final_layer_norm"),
        one("text.projection.kernel", "text_projection.weight", LINEAR),
        one("logit_scale", "logit_scale"),
    ]


def from_hf(tensors: Tensors, config: CLIPConfig, state: nnx.State, where: str) -> dict[str, Any]:
    """Our parameters by path, float32, read from Hugging Face's tensors.

    Args:
      tensors: every tensor of the checkpoint.
      config: the model that it should hold.
      state: that model's abstract state; only shapes are read.
      where: the checkpoint's name in messages.

    Raises:
      UserError: tensors are missing, unexpected, or of a wrong shape or dtype; all are named.
    """
    shapes = hf_shapes(config, state)
    problems, params = [], {}
    for entry in table(config):
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
    problems += [f"unexpected {name}" for name in sorted(set(tensors) - set(shapes) - set(BUFFERS))]
    if problems:
        raise UserError(
            f"{where}: the tensors are not those of the model that its configuration describes "
            f"({len(problems)} differ); weights and config.json must come from one model:\n  "
            + "\n  ".join(problems)
        )
    return params


def hf_shapes(config: CLIPConfig, state: nnx.State) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of Hugging Face's, in the order in which `to_hf` makes them."""
    shapes = {path: leaf.shape for path, leaf in flat(state)}
    found = {}
    for entry in table(config):
        parts = part_shapes(entry, shapes[entry.path])
        for names in entry.names:
            found |= dict(zip(names, parts, strict=True))
    return found


def part_shapes(entry: Entry, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of the tensors of one layer of an entry, by splitting an array without memory."""
    ours = np.broadcast_to(np.float32(0), shape[1:] if entry.stacked else shape)
    return [part.shape for part in entry.layout.split(ours)]


def to_hf(config: CLIPConfig, state: nnx.State) -> Iterator[tuple[str, np.ndarray]]:
    """Hugging Face's tensors by name, float32, made of our parameters one at a time."""
    params = dict(flat(state))
    for entry in table(config):
        ours = np.asarray(params[entry.path])
        for names, layer in zip(entry.names, ours if entry.stacked else [ours], strict=True):
            for name, tensor in zip(names, entry.layout.split(layer), strict=True):
                yield name, np.asarray(tensor, order="C")


def flat(state: nnx.State) -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted path."""
    for path, leaf in nnx.to_flat_state(state):
        yield ".".join(path), leaf.get_value()


def fill(state: nnx.State, params: dict[str, np.ndarray]) -> nnx.State:
    """The abstract `state` with its leaves taken from `params`, on the default device."""
    return nnx.from_flat_state(
        [
            (path, leaf.replace(jnp.asarray(params.pop(".".join(path)))))
            for path, leaf in nnx.to_flat_state(state)
        ]
    )


def _read(
    tensors: Tensors, name: str, shape: tuple[int, ...]
) -> tuple[list[str], list[np.ndarray]]:
    """What is wrong with one tensor, or the tensor in float32."""
    if name not in tensors:
        return [f"missing {name} {shape}"], []
    tensor = tensors[name]()
    problems = []
    if tensor.dtype.name not in DTYPES:
        problems.append(f"{name} is {tensor.dtype}, not {', '.join(DTYPES)}")
    if tensor.shape != shape and not (tensor.size == 1 and shape == ()):
        problems.append(f"{name} has shape {tensor.shape}, not {shape}")
    return problems, [] if problems else [tensor.astype(np.float32, copy=False).reshape(shape)]
