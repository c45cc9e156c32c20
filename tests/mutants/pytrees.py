"""Any pytrees and configurations that a user may pass from Python, for Hypothesis."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

FLOATS = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)
OTHERS = (np.int32, np.uint8, np.bool_)
SHAPES = ((), (1,), (3,), (0,), (2, 3), (0, 2))
ODD_LEAVES = (
    None, "text", b"bytes", 1j, np.array(["a"]), np.array([None]), np.complex64(1), object, print,
    np.datetime64("2026-01-01"), memoryview(b"x"), 10**400, float("nan"), float("-inf"),
    np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]), range(3), {1, 2}, jax.ShapeDtypeStruct,
)  # fmt: skip
"""Leaves that no model's merged array has: not an array, or not of finite real numbers."""
ODD = st.sampled_from(
    (*ODD_LEAVES, True, -1, 0, 2**63, -0.0, 1e308, "", "0.5", [], {}, (), [1], {"a": 1}, "../x")
)


@st.composite
def leaves(draw: st.DrawFn) -> Any:
    """An array or a number with small values, which every dtype holds exactly."""
    kind = draw(st.sampled_from(("numpy", "jax", "number", "other")))
    if kind == "number":
        return draw(st.sampled_from((0.5, -2.0, 3, True)))
    dtype = draw(st.sampled_from(OTHERS if kind == "other" else FLOATS))
    shape = draw(st.sampled_from(SHAPES))
    made = (np.arange(np.prod(shape), dtype=np.float32) - 1).reshape(shape).astype(dtype)
    return jnp.asarray(made) if kind == "jax" and dtype is not np.float64 else made


def trees(inner: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Dictionaries, lists and tuples of leaves."""
    names = st.sampled_from(("a", "b", "c.d", "\u00e9", ""))
    return st.recursive(
        leaves() if inner is None else inner,
        lambda x: (
            st.dictionaries(names, x, min_size=1, max_size=3)
            | st.lists(x, min_size=1, max_size=2)
            | st.tuples(x, x)
        ),
        max_leaves=4,
    ).filter(lambda tree: isinstance(tree, dict | list | tuple))


class Given(NamedTuple):
    """Arguments of `merge`.

    Attributes:
      alike: whether all models are theta_0's: of its structure, shapes and dtypes, and finite.
    """

    pretrained: Any
    models: list[Any]
    alike: bool


@st.composite
def models(draw: st.DrawFn) -> Given:
    """theta_0 and up to three models; in half of the cases, one of them is another's or damaged."""
    theta_0 = draw(trees())
    made = []
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from((0, 1, -3, 5)))
        made.append(jax.tree.map(lambda leaf, by=change: _moved(leaf, by), theta_0))
    if draw(st.booleans()):
        return Given(theta_0, made, alike=True)
    place = draw(st.integers(0, len(made) - 1))
    damage = draw(st.sampled_from(("leaf", "shape", "dtype", "structure", "all", "infinity")))
    made[place] = _damaged(draw, made[place], damage)
    return Given(theta_0, made, alike=False)


def _moved(leaf: Any, by: int) -> Any:
    """A leaf of a fine-tuned model; integers and flags stay."""
    if isinstance(leaf, float):
        return leaf + by
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    steps = np.arange(leaf.size).reshape(leaf.shape) % 2 * 2 - 1
    new = (np.asarray(leaf, np.float64) + by * steps).astype(leaf.dtype)
    return jnp.asarray(new) if isinstance(leaf, jax.Array) else new


def _damaged(draw: st.DrawFn, tree: Any, damage: str) -> Any:
    if damage == "all":
        return draw(ODD)
    found, structure = jax.tree.flatten(tree)
    place = draw(st.integers(0, len(found) - 1))
    leaf = np.asarray(found[place])
    if damage == "structure":
        return draw(st.sampled_from(([tree], {"x": tree}, copy.deepcopy(found), (tree, 1.0))))
    if damage == "leaf":
        found[place] = draw(ODD)
    elif damage == "shape":
        found[place] = leaf[None]
    elif damage == "dtype":
        found[place] = leaf.astype(np.int8 if leaf.dtype != np.int8 else np.int16)
    else:
        with np.errstate(all="ignore"):
            wide = leaf.astype(np.float32)
            found[place] = np.full_like(wide, draw(st.sampled_from((np.inf, np.nan))))
    return structure.unflatten(found)
