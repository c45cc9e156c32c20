"""A rule's merge by depth: shallow layers stay near theta_0.

Layers are recognised by name: `layers.3.fc1.weight` belongs to layer 3 of its tower, as do
`layer.3`, `block.3`, `blocks.3`, `resblocks.3`, `h.3` and `stages.3`. A leaf under `blocks` without
a number, as in this package's towers, holds all layers of a tower along its first axis. Both forms
of a model give the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import MergeRule, Settle, State, factory, leaf_name, leafwise_at
from magmax_jax.merging.rules.upon import RuleOrName, resolved, upon
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import PyTree, is_merged
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES

_NUMBERED = re.compile(r"(?:^|\.)(?:stages?|layers?|(?:res)?blocks?|h)\.(\d+)(?:\.|$)")
_STACKED = re.compile(r"(?:^|\.)blocks(?:\.|$)")


class Layer(NamedTuple):
    """The layer that a leaf belongs to: the name of its tower's layers, and its number from 0."""

    tower: str
    number: int


def layer_of(name: str) -> Layer | None:
    """The layer whose number a name contains; None if it contains none.

    >>> layer_of("vision_model.encoder.layers.3.mlp.fc1.weight")
    Layer(tower='vision_model.encoder.layers', number=3)
    """
    found = _NUMBERED.search(name)
    return Layer(name[: found.start(1) - 1], int(found[1])) if found else None


def is_stacked(name: str) -> bool:
    """Whether a leaf's first axis runs over layers.

    >>> is_stacked("blocks.fc1.kernel"), is_stacked("blocks.3.fc1.kernel")
    (True, False)
    """
    return layer_of(name) is None and _STACKED.search(name) is not None


@RULES.register("lines")
@factory
def lines(
    rule: RuleOrName = "max_magnitude",
    alpha: float = 0.5,
    beta: float = 0.5,
    layers: int | None = None,
    seed: int = 0,
) -> MergeRule:
    """LiNeS: another rule's merge, scaled up with depth.

        tau = (alpha + beta l / (L - 1)) m    in layer l = 0 ... L - 1 of a tower
              alpha m                         in all other leaves

    Wang et al., 2024 (arXiv 2410.17146), where m is the rule's merge of the task vectors: shallow
    layers hold general features, and changing them costs other tasks more than the new one gains.
    As in the release, embeddings, final norms and projections are scaled like the first layer. The
    release uses beta = 1 - alpha for one task, which is the default; for a sum of T tasks it uses
    alpha = |sum_t tau_t| / (T |m|), with beta chosen on validation data. Default scale 1. State:
    the rule's. Order matters as it does for the rule.

    Args:
      rule: a rule or its name.
      alpha: the scale of the first layer.
      beta: how much larger the last layer's is.
      layers: L, for every tower with numbered layers; by default one more than the highest number
        among the merged leaves. Required for a state in a file.
      seed: for a rule given by name that draws at random.

    Raises:
      UserError: the rule is invalid, or L is not positive; or, when merging, a leaf's layer is
        beyond L, or there are no layers and L is not given.
    """
    if layers is not None and layers < 1:
        raise UserError(f"lines: layers is {layers}: it must be positive")
    beneath = resolved(rule, seed)
    return _by_depth(beneath, alpha, beta, layers)


def _by_depth(
    rule: MergeRule, alpha: float, beta: float, layers: int | Mapping[str, int] | None
) -> MergeRule:
    """`lines`.

    Args:
      layers: L for every tower, or by tower; None to count them in the whole model.
    """

    def scale(length: int) -> np.ndarray:
        return (alpha + beta * np.arange(length) / max(length - 1, 1)).astype(np.float32)

    def finalize(state: State) -> PyTree:
        merged = rule.finalize(state)
        known = _counted(_merged_names(merged)) if layers is None else layers

        def scaled(name: str, leaf: jax.Array) -> jax.Array:
            layer = layer_of(name)
            if layer is not None:
                length = known if isinstance(known, int) else known[layer.tower]
                if layer.number >= length:
                    raise UserError(
                        f"lines: layers is {length}, but there is {name}: give the number of "
                        "layers, or leave it out to count them"
                    )
                factor = scale(length)[layer.number]
            elif is_stacked(name) and leaf.ndim:
                factor = scale(leaf.shape[0]).reshape(-1, *(1,) * (leaf.ndim - 1))
            else:
                factor = np.float32(alpha)
            # Behind a barrier, because the compiler reorders products with known numbers.
            return leaf * jax.lax.optimization_barrier(jnp.asarray(factor))

        return leafwise_at(scaled, merged)

    def survey(vectors: TaskVectors) -> MergeRule:
        known = layers
        if known is None:
            trees = (theta_0 for theta_0, _ in vectors.tensors())
            known = _counted(name for tree in trees for name in _merged_names(tree))
        return _by_depth(rule.survey(vectors) if rule.survey else rule, alpha, beta, known)

    settle = rule.settle

    def complete(measured: Mapping[str, np.ndarray]) -> MergeRule:
        assert settle is not None
        return _by_depth(settle.complete(measured), alpha, beta, layers)

    return upon(
        rule,
        finalize=finalize,
        default_scale=1.0,
        reads_names=True,
        of_stack=rule.of_stack,
        survey=survey if layers is None or rule.survey else None,
        settle=settle and Settle(settle.measure, complete),
    )


def _merged_names(tree: PyTree) -> Iterable[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return (leaf_name(path) for path, leaf in leaves if is_merged(leaf))


def _counted(names: Iterable[str]) -> dict[str, int]:
    """The number of layers of every tower with numbered layers.

    Raises:
      UserError: no leaf belongs to a layer.
    """
    lengths: dict[str, int] = {}
    stacked = False
    for name in names:
        if layer := layer_of(name):
            lengths[layer.tower] = max(lengths.get(layer.tower, 0), layer.number + 1)
        stacked |= is_stacked(name)
    if not (lengths or stacked):
        raise UserError(
            "lines finds no layers: no name has a part such as layers.0 or blocks.0, so everything "
            "would be scaled by alpha; pass the number of layers (layers) if you want that"
        )
    return lengths
