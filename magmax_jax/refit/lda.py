"""Linear discriminant analysis in constant memory, for features that drift from task to task.

Letters in shapes: b batch, d width of the features, p width of the space that images and texts
share, k classes; n images.
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.refit.base import Features, Refit
from magmax_jax.registry import REFITS

HEAD_RIDGE = 1e-4
"""Ridge for inverting the head's Gram matrix, relative to its mean diagonal: two classes with the
same prompts would make it singular."""


class Sums(NamedTuple):
    """Sums over the images of one task; features have a 1 appended.

    Attributes:
      old, cross, new: (d + 1, d + 1), sums of outer products of features: before x before, before x
        after and after x after the task.
      classes: (k, d + 1), sums of each class's features after it.
    """

    old: jax.Array
    cross: jax.Array
    new: jax.Array
    classes: jax.Array


class LDAState(NamedTuple):
    """Statistics of all tasks so far, and sums of the one being learned.

    Attributes:
      count: (k,), images.
      mean: (k, d), of each class's features in the currently deployed model.
      scatter: (d, d), sum of outer products of features minus their class mean.
      sums: zero between tasks.
    """

    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called
    mean: jax.Array
    scatter: jax.Array
    sums: Sums


@REFITS.register("lda")
def lda(shrink: float = 0.1, ridge: float = 1.0) -> Refit:
    """Logits of Gaussian classes that share one covariance S (Fisher, 1936):

        logit_c(f) = m_c' S^-1 f - m_c' S^-1 m_c / 2,    S = (1 - shrink) S_w + shrink tr(S_w) / d I

    m_c are the class means and S_w the within-class covariance. They are sums, so no images of
    earlier tasks are needed; but they describe the features that the model had then. The images of
    task t show how these changed: with X before and Y after the task, both centred,

        A = I + (X'X + ridge tr(X'X) / d I)^-1 X'(Y - X)

    updates the old means and covariance, m <- mean(Y) + A'(m - mean(X)) and S_w <- A' S_w A. For a
    large `ridge`, A is the identity: then the means only move by the average shift of task t's
    features.

    The map is the least-squares fit whose logits for the head h_1 ... h_k are those above, up to a
    constant shared by all classes of an image:

        kernel = W (H'H)^-1 H',    shift = W (W'W)^-1 b

    for W = S^-1 [m_c] and b = -[m_c' W_c] / 2, both centred over the classes learned, and H their
    columns of the head. It is exact if at most p classes are learned and their prompts differ;
    other classes rank last for every image that is closer to a learned one. All classes count
    equally, however many images they have.

    Args:
      shrink: in (0, 1], shrinkage of the covariance towards a multiple of the identity.
      ridge: not negative; see above.

    Raises:
      UserError: shrink or ridge is outside its range.
    """
    if not 0 < shrink <= 1:
        raise UserError(f"lda: shrink is {shrink}: it must be in (0, 1]")
    if not 0 <= ridge <= sys.float_info.max:
        raise UserError(f"lda: ridge is {ridge}: it must be finite and not negative")

    def init(d: int, k: int) -> LDAState:
        square = jnp.zeros((d + 1, d + 1))
        sums = Sums(square, square, square, jnp.zeros((k, d + 1)))
        return LDAState(jnp.zeros(k), jnp.zeros((k, d)), jnp.zeros((d, d)), sums)

    def learn(state: LDAState) -> LDAState:
        count, mean, scatter, sums = jax.tree.map(lambda x: np.asarray(x, np.float64), state)
        if count.any():
            mean, scatter = _carried(mean, scatter, sums, ridge)
        count, mean, scatter = _joined((count, mean, scatter), _of_task(sums))
        nothing = jax.tree.map(np.zeros_like, sums)
        return LDAState(*map(_float32, (count, mean, scatter, nothing)))

    def fit(state: LDAState, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count, mean, scatter, _ = jax.tree.map(lambda x: np.asarray(x, np.float64), state)
        learned = np.flatnonzero(count)
        covariance = scatter / max(count.sum() - len(learned), 1)
        weights, bias = _discriminant(mean[learned], covariance, shrink)
        return _float32(_folded(weights, bias, np.asarray(head, np.float64)[:, learned]))

    return Refit(init, _observe, learn, fit)


def _observe(state: LDAState, features: Features) -> LDAState:
    """Adds one batch to the sums."""
    mask = features.mask[:, None]

    def appended(f: jax.Array) -> jax.Array:
        return jnp.where(mask, jnp.pad(f, ((0, 0), (0, 1)), constant_values=1), 0)

    def outer(x: jax.Array, y: jax.Array) -> jax.Array:
        # An accelerator would round the factors to 11 bits, too few for a covariance.
        return jnp.einsum("bi,bj->ij", x, y, precision=jax.lax.Precision.HIGHEST)

    x, y = appended(features.before), appended(features.after)
    sums = state.sums
    added = Sums(
        sums.old + outer(x, x),
        sums.cross + outer(x, y),
        sums.new + outer(y, y),
        sums.classes.at[features.label].add(y),
    )
    return state._replace(sums=added)


def _carried(
    mean: np.ndarray, scatter: np.ndarray, sums: Sums, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Means and scatter of old features, mapped to the features after the task."""
    old, cross, new = (np.asarray(x) for x in (sums.old, sums.cross, sums.new))
    n, d = new[-1, -1], len(scatter)
    x, y = old[-1, :-1] / n, new[-1, :-1] / n  # means
    gram = old[:-1, :-1] - n * np.outer(x, x)
    step = cross[:-1, :-1] - n * np.outer(x, y) - gram
    size = np.trace(gram) / d
    if not size > 0:  # a single image, or features that are all equal
        return mean + (y - x), scatter
    a = np.eye(d) + np.linalg.solve(gram + max(ridge, 1e-6) * size * np.eye(d), step)
    return y + (mean - x) @ a, a.T @ scatter @ a


def _of_task(sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and scatter of the images of one task."""
    classes, new = np.asarray(sums.classes), np.asarray(sums.new)
    count = classes[:, -1]
    mean = classes[:, :-1] / np.maximum(count, 1)[:, None]
    return count, mean, new[:-1, :-1] - (mean.T * count) @ mean


def _joined(
    one: tuple[np.ndarray, np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of both sets of images together (Chan et al., 1979, for every class)."""
    (n, m, s), (n_2, m_2, s_2) = one, other
    count = n + n_2
    share = n_2 / np.maximum(count, 1)
    apart = m_2 - m
    return count, m + share[:, None] * apart, s + s_2 + (apart.T * (n * share)) @ apart


def _discriminant(
    mean: np.ndarray, covariance: np.ndarray, shrink: float
) -> tuple[np.ndarray, np.ndarray]:
    """W (d, k) and b (k,), both centred over the classes."""
    d = len(covariance)
    round_ = np.trace(covariance) / d or 1.0  # one image per class: nearest mean
    shrunk = (1 - shrink) * covariance + shrink * round_ * np.eye(d)
    weights = np.linalg.solve(shrunk, mean.T)
    bias = -np.einsum("kd,dk->k", mean, weights) / 2
    return weights - weights.mean(axis=1, keepdims=True), bias - bias.mean()


def _folded(
    weights: np.ndarray, bias: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and shift whose logits for the head (p, k) are W' f + b."""
    gram = head.T @ head
    gram += HEAD_RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel = weights @ np.linalg.solve(gram, head.T)
    return kernel, np.linalg.lstsq(weights.T, bias, rcond=1e-8)[0]


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
