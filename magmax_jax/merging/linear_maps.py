"""Which leaves hold the matrices of linear maps, and in what layout.

Rules based on singular values need this: an embedding table has two axes like a matrix, but its
rows are looked up, not multiplied, and a few of them can outweigh everything else. A leaf may also
hold several matrices: one per layer, or query, key and value side by side.

A model family lists its own (`linear_maps()` of the models here). Without such a list, names
decide: common names of embeddings, norms and biases (Hugging Face, OpenAI, OpenCLIP, timm, Flax)
are recognised, and any other leaf with two axes is a matrix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.packages.lazy_jax import jax, jnp

Said = Literal["by_name", "by_shape"]


class Matrices(NamedTuple):
    """Layout of matrices in a leaf.

    Attributes:
      stacked: the first of three axes runs over layers.
      parts: number of matrices of the same shape side by side.
      axis: the axis of a matrix, 0 or 1, along which they are side by side.
    """

    stacked: bool = False
    parts: int = 1
    axis: int = 0

    @property
    def alone(self) -> bool:
        """Whether the leaf is a single matrix."""
        return not self.stacked and self.parts == 1

    def split(self, leaf: jax.Array) -> jax.Array:
        """The matrices of a leaf, layer by layer: (n, rows, columns)."""
        stack = leaf if self.stacked else leaf[None]
        layers, rows, columns = stack.shape
        if self.axis == 0:
            return stack.reshape(layers * self.parts, rows // self.parts, columns)
        parts = stack.reshape(layers, rows, self.parts, columns // self.parts)
        return jnp.swapaxes(parts, 1, 2).reshape(layers * self.parts, rows, -1)

    def join(self, stack: jax.Array) -> jax.Array:
        """Inverse of `split`."""
        _, rows, columns = stack.shape
        if self.axis == 0:
            joined = stack.reshape(-1, self.parts * rows, columns)
        else:
            parts = stack.reshape(-1, self.parts, rows, columns)
            joined = jnp.swapaxes(parts, 1, 2).reshape(-1, rows, self.parts * columns)
        return joined if self.stacked else joined[0]


class LinearMap(NamedTuple):
    """A leaf whose matrices are linear maps.

    Attributes:
      name: the leaf's path joined by dots.
      stacked, parts, axis: as in `Matrices`.
    """

    name: str
    stacked: bool = False
    parts: int = 1
    axis: int = 0


Maps = Sequence[LinearMap | tuple[str, bool, int, int] | str]
"""A bare name means a leaf that is a single matrix."""


class Finder(NamedTuple):
    """Finds the matrices in leaves. A value, so that rules made with equal ones are equal.

    Attributes:
      said: without `maps`, "by_name", or "by_shape": every leaf with two axes is one matrix.
      stacked: without `maps`, leaves with three axes are stacks of matrices, also by their names.
      averaged: substrings of the names of leaves that are not treated as matrices.
      maps: the leaves that hold matrices; no others do.
    """

    said: Said = "by_name"
    stacked: bool = False
    averaged: tuple[str, ...] = ()
    maps: tuple[LinearMap, ...] | None = None

    @classmethod
    def checked(
        cls,
        said: Said,
        stacked: bool,
        averaged: Sequence[str],
        maps: Maps | None,
    ) -> Finder:
        """The finder for a rule's options.

        Raises:
          UserError: an option is invalid.
        """
        if "" in averaged:
            raise UserError("averaged: an empty part matches every leaf's name: leave it out")
        if said not in ("by_name", "by_shape"):
            raise UserError(f"matrices is {said!r}: choose by_name or by_shape")
        if maps is None:
            return cls(said, stacked, tuple(averaged))
        return cls(averaged=tuple(averaged), maps=tuple(map(_checked_map, maps)))

    @property
    def reads_names(self) -> bool:
        return self.maps is not None or self.said == "by_name" or bool(self.averaged)

    def of(self, name: str, shape: Sequence[int]) -> Matrices | None:
        """Layout of the matrices in the leaf; None if it holds none or is empty.

        Raises:
          UserError: one of `maps` does not fit the leaf's shape.
        """
        if 0 in shape or any(part in name for part in self.averaged):
            return None
        if self.maps is not None:
            return self._of_map(name.removesuffix(_VALUE), shape)
        stacked = self.stacked and len(shape) == 3
        if not stacked and len(shape) != 2:
            return None
        if self.said == "by_shape":
            return Matrices(stacked)
        return _by_name(name.removesuffix(_VALUE), stacked, shape[-2:])

    def _of_map(self, name: str, shape: Sequence[int]) -> Matrices | None:
        found = next((each for each in self.maps or () if each.name == name), None)
        if found is None:
            return None
        matrices = Matrices(*found[1:])
        if len(shape) != 2 + found.stacked or shape[found.axis - 2] % found.parts:
            raise UserError(
                f"maps: {name} has shape {tuple(shape)}, which does not fit {found}: correct its "
                "stacked, parts or axis"
            )
        return matrices


def _checked_map(given: Any) -> LinearMap:
    try:
        found = LinearMap(given) if isinstance(given, str) else LinearMap(*given)
        if isinstance(found.name, str) and found.parts > 0 and found.axis in (0, 1):
            return found
    except TypeError:
        pass
    raise UserError(f"maps holds {given!r}: give (name, stacked, parts, axis), as LinearMap is")


class Found(NamedTuple):
    """A `Finder` for one kind of leaf, whatever its name."""

    matrices: Matrices | None
    reads_names: bool = False

    def of(self, name: str, shape: Sequence[int]) -> Matrices | None:
        return self.matrices


def _by_name(name: str, stacked: bool, shape: Sequence[int]) -> Matrices | None:
    *above, last = name.split(".")
    module = last
    if above and last in ("weight", "kernel"):
        # `blocks.0.weight`: a number carries no information.
        module = next((word for word in reversed(above) if not word.isdigit()), last)
    if last == "embedding" or _NO_MATRIX.search(last) or _TABLE.search(module):
        return None
    rows, columns = shape
    if module in _FUSED and rows == 3 * columns:
        return Matrices(stacked, 3, 0)
    if module in _FUSED and columns == 3 * rows:
        return Matrices(stacked, 3, 1)
    return Matrices(stacked)


_VALUE = ".value"
"""How the path of an NNX parameter ends."""
_NO_MATRIX = re.compile(r"(?:^|_)(?:bias|scale|beta|gamma)$")
"""Names of vector parameters, which have two axes where layers are stacked."""
_TABLE = re.compile(
    r"(?:^|_)(?:embed|embeds|embedding|embeddings|embedder|emb|wte|wpe|tokens?|table|codebook|probe"
    r"|bias)$|^(?:shared|embed_(?:tokens|positions)_\w+)$|norm|(?:^|_)ln(?:_|\d|$)",
    re.IGNORECASE,
)
"""Names of modules and parameters whose rows are looked up or added (e.g. T5's `shared` and
`relative_attention_bias`, GPT-2's `wte` and `wpe`, Swin's `relative_position_bias_table`), and of
norms. They include patch embeddings, which are convolutions in the published code."""
_FUSED = frozenset(["in_proj_weight", "qkv", "qkv_proj", "Wqkv", "c_attn"])
"""Query, key and value side by side, if one axis is three times the other: PyTorch's and OpenAI's,
timm's and ours, Phi-3's, MPT's, GPT-2's. BLOOM's `query_key_value` mixes them head by head."""
