"""Similarity of task vectors: inner products, cosines and norms."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.analysis.leaves import named_leaves
from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.task_vectors import PyTree, check_alike


def inner_products(load: Callable[[int], PyTree], tasks: int, at_once: int = 8) -> np.ndarray:
    """The inner products of t task vectors over all floating-point leaves: float64 (t, t).

    Sums are in float32 within a leaf, without moving its shards, and in float64 over leaves.

    Args:
      load: returns the task vector of that number, from 0 to t - 1; all have the same structure.
        Called once for each if there are at most `at_once`, else about t^2 / (2 at_once) times in
        total.
      tasks: t. Any vectors will do: merged ones may follow those of the tasks.
      at_once: how many are held in memory together, at least 2.

    Raises:
      UserError: `at_once` is less than 2, or two task vectors differ in names or shapes.

    >>> taus = [jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0])]
    >>> print(inner_products(lambda task: taus[task], 2))
    [[25.  3.]
     [ 3.  1.]]
    """
    if at_once < 2:
        raise UserError(f"at_once is {at_once}: an inner product needs two task vectors in memory")
    products = np.zeros((tasks, tasks))

    def fill(task: int, tau: dict[str, jax.Array], others: list, first: int) -> None:
        for other, held in enumerate(others, first):
            products[task, other] = products[other, task] = _inner(held, tau)

    held = tasks if tasks <= at_once else at_once - 1
    for first in range(0, tasks, max(held, 1)):
        block: list[dict[str, jax.Array]] = []  # frees the last block before loading
        last = min(first + held, tasks)
        for task in range(first, last):
            block.append(named_leaves(load(task)))
            fill(task, block[-1], block, first)
        for task in range(last, tasks):
            fill(task, named_leaves(load(task)), block, first)
    return products


def cosines(products: np.ndarray) -> np.ndarray:
    """The cosines of the angles between vectors, from their inner products (t, t): float64 (t, t).

    In [-1, 1], and 1 of a vector with itself; 0 for a zero vector, even with itself.
    """
    lengths = norms(products)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    found = np.clip(products * scale[:, None] * scale, -1.0, 1.0)
    np.fill_diagonal(found, lengths > 0)
    return found


def norms(products: np.ndarray) -> np.ndarray:
    """The Euclidean norms of vectors, from their inner products (t, t): float64 (t,)."""
    return np.sqrt(np.diagonal(products))


def norm(tau: PyTree) -> float:
    """The Euclidean norm over all floating-point leaves."""
    leaves = named_leaves(tau)
    return float(np.sqrt(_inner(leaves, leaves)))


def _inner(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> float:
    check_alike(b, a, dtypes=False)
    return sum(float(product) for product in jax.device_get(_inners(a, b)))


@jit_on_any_mesh(like=None)
def _inners(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> list[jax.Array]:
    # Not `reductions.inner`: its fixed order of additions would gather sharded leaves.
    return [jnp.sum(a[name].astype(jnp.float32) * b[name].astype(jnp.float32)) for name in a]
