"""A rule's merge by depth: shallow layers stay near theta_0.

Layers are known by name: `layers.3.fc1.weight` is of layer 3 of its tower, and so are `layer.3`,
`block.3`, `blocks.3`, `resblocks.3`, `h.3` and `stages.3`. A leaf under `blocks` without a number,
as in this package's towers, holds all layers of a tower along its first axis. A model gets the same
numbers in either form.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import MergeRule, Settle, State, factory, leaf_name, leafwise_at
from magmax_jax.merging.rules.upon import RuleOrName, resolved, upon
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import PyTree, is_merged
from magmax_jax.registry import RULES

_NUMBERED = re.compile(r"(?:^|\.)(?:stages?|layers?|(?:res)?blocks?|h)\.(\d+)(?:\.|$)")
_STACKED = re.compile(r"(?:^|\.)blocks(?:\.|$)")


class Layer(NamedTuple):
    """Which layer a leaf is of: the name of its tower's layers, and its number from 0."""

    tower: str
    number: int


def layer_of(name: str) -> Layer | None:
    """The layer that a name has a number of; None where it has none.

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
    """LiNeS: another rule's merge, scaled the more the deeper a layer is.

        tau = (alpha + beta l / (L - 1)) m    in layer l = 0 ... L - 1 of a tower
              alpha m                         in all other leaves

    Wang et al., 2024 (arXiv 2410.17146), m being what the rule makes of the task vectors: shallow
    layers hold general features, and changing them costs other tasks more than it gives to the new
    one. As in the release, embeddings, final norms and projections are scaled like the first layer.
    The release has beta = 1 - alpha for one task, which is the default; for a sum of T tasks it has
    alpha = |sum_t tau_t| / (T |m|), and beta chosen on validation data. Default scale 1. State: the
    rule's. Order matters as it does for the rule.

    Args:
      rule: a rule or its name.
      alpha: the scale of the first layer.
      beta: by how much the last layer's is larger.
      layers: L, of every tower whose layers are numbered; by default one more than the highest
        number among the leaves that are merged. A state in a file needs it.
      seed: of a rule that is named and draws.

    Raises:
      UserError: the rule is none, or L is not positive; or, when merging, a leaf is of a layer
        beyond L, or there are no layers and L is not given.
    """
    if layers is not None and layers < 1:
        raise UserError(f"lines: layers is {layers}, not positive")
    beneath = resolved(rule, seed)
    return _by_depth(beneath, alpha, beta, layers)


def _by_depth(
    rule: MergeRule, alpha: float, beta: float, layers: int | Mapping[str, int] | None
) -> MergeRule:
    """`lines`.

    Args:
      layers: L of every tower, or by tower; None to count them in the whole model.
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
                    raise UserError(f"lines: layers is {length}, too few for {name}")
                factor = scale(length)[layer.number]
            elif is_stacked(name) and leaf.ndim:
                factor = scale(leaf.shape[0]).reshape(-1, *(1,) * (leaf.ndim - 1))
            else:
                factor = np.float32(alpha)
            # Behind a barrier, for the compiler reorders products with numbers that it knows.
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
        survey=survey if layers is None or rule.survey else None,
        settle=settle and Settle(settle.measure, complete),
    )


def _merged_names(tree: PyTree) -> Iterable[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return (leaf_name(path) for path, leaf in leaves if is_merged(leaf))


def _counted(names: Iterable[str]) -> dict[str, int]:
    """The number of layers of every tower whose layers are numbered.

    Raises:
      UserError: no leaf is of a layer.
    """
    lengths: dict[str, int] = {}
    stacked = False
    for name in names:
        if layer := layer_of(name):
            lengths[layer.tower] = max(lengths.get(layer.tower, 0), layer.number + 1)
        stacked |= is_stacked(name)
    if not (lengths or stacked):
        raise UserError(
            "lines finds no layers: no name has a part such as layers.0 or blocks.0, so that all "
            "would be scaled by alpha; say how many there are (layers) to have that"
        )
    return lengths
