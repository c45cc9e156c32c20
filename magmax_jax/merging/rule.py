"""What a merge rule is, and the few functions that every rule is written with.

A rule is a value in the shape of optax's transformations. The state of a streaming rule is a pytree
of arrays whose size does not grow with the tasks, so it can be jitted, donated, sharded and written
to disk; the state of a collecting rule is the tuple of all task vectors.

Rules see one leaf at a time and know it by its path, never by its position, and what a rule needs
of the whole task vector it takes from its caller on request. So a rule gives the same bits on a
tree of one leaf as on the whole tree, and a model too large for memory can be merged tensor by
tensor.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros

State = Any


class MergeRule(NamedTuple):
    """A way to merge task vectors, as pure functions.

    Attributes:
      init: theta_0 -> state, before any task.
      update: (state, tau_t) -> state, once for every task, in their order.
      finalize: state -> tau, the merged task vector; the state stays usable.
      streaming: the state's size does not depend on the number of tasks.
      default_scale: the lambda that the rule is published with.
    """

    init: Callable[[PyTree], State]
    update: Callable[[State, PyTree], State]
    finalize: Callable[[State], PyTree]
    streaming: bool
    default_scale: float


class Counted(NamedTuple):
    """State of rules that count: a running task vector, and how many were seen (int32 scalar)."""

    tau: PyTree
    count: jax.Array

    @classmethod
    def zeros(cls, pretrained: PyTree) -> "Counted":
        return cls(zeros(pretrained), jnp.int32(0))


class Informed(NamedTuple):
    """A model, or its task vector, with the diagonal of its Fisher: what `fisher` merges.

    `merge` and `fold` take it in place of a model, and `fisher().update` in place of a task vector.
    """

    params: PyTree
    fisher: PyTree


def collecting(finalize: Callable[[tuple], PyTree], default_scale: float) -> MergeRule:
    """The rule that keeps every task vector and hands the tuple of them to `finalize`."""
    return MergeRule(
        lambda pretrained: (),
        lambda taus, tau: (*taus, tau),
        finalize,
        streaming=False,
        default_scale=default_scale,
    )


def factory(build: Callable[..., MergeRule]) -> Callable[..., MergeRule]:
    """Makes equal rules one value, however their arguments are spelled, so that each compiles once.

    Lists and arrays among the arguments become tuples.
    """
    signature, cached = inspect.signature(build), functools.cache(build)

    @functools.wraps(build)
    def make(*args: Any, **kwargs: Any) -> MergeRule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return cached(*map(_hashable, bound.arguments.values()))

    return make


def leafwise(function: Callable[..., jax.Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` over the leaves that are merged; the others are those of the first tree."""
    return jax.tree.map(
        lambda leaf, *others: function(leaf, *others) if is_merged(leaf) else leaf, tree, *rest
    )


def leafwise_at(function: Callable[..., jax.Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """`leafwise` for a function whose first argument is the leaf's name (`leaf_name`)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, *others: (
            function(leaf_name(path), leaf, *others) if is_merged(leaf) else leaf
        ),
        tree,
        *rest,
    )


def leaf_name(path: tuple) -> str:
    """A leaf's path joined by dots: `{"a": {"b": x}}` and `{"a.b": x}` both hold `a.b`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def leaf_key(seed: int, task: jax.typing.ArrayLike, name: str) -> jax.Array:
    """The random key of one leaf of one task (counted from 1), wherever the leaf is in its tree."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    words = np.frombuffer(digest, "<u4").astype(np.uint32)
    return jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), task)


def _hashable(value: Any) -> Any:
    return tuple(np.asarray(value).tolist()) if isinstance(value, list | np.ndarray) else value
