"""Linear discriminant analysis, against the textbook formula on all images at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.refit import Features
from magmax_jax.refit.lda import lda

D, K, P = 12, 5, 8


def task(rng, classes, n=60, offset=0.0):
    """Features (n, D) of Gaussian classes that share a covariance, and labels."""
    means = np.random.default_rng(7).normal(size=(K, D)) * 2
    spread = np.random.default_rng(8).normal(size=(D, D)) / 2
    labels = rng.choice(classes, n).astype(np.int32)
    return (means[labels] + rng.normal(size=(n, D)) @ spread + offset).astype(np.float32), labels


def learned(refit, tasks, batch=17):
    """The state after tasks of (before, after, labels), fed in padded batches."""
    state = refit.init(D, K)
    for before, after, labels in tasks:
        for i in range(0, len(labels), batch):
            fill = batch - len(labels[i : i + batch])
            # Padding is ignored, whatever its features are.
            rows = [np.pad(x[i : i + batch], ((0, fill), (0, 0)), constant_values=np.nan)
                    for x in (before, after)]  # fmt: skip
            label = np.pad(labels[i : i + batch], (0, fill))
            mask = np.arange(batch) < batch - fill
            state = jax.jit(refit.observe)(state, Features(*map(jnp.asarray, (*rows, label, mask))))
        state = refit.learn(jax.device_get(state))
    return state


def textbook(features, labels, shrink):
    """Discriminants of all classes as functions of the features, computed at once in float64."""
    features, classes = features.astype(np.float64), np.unique(labels)
    means = np.stack([features[labels == c].mean(axis=0) for c in classes])
    left = features - means[np.searchsorted(classes, labels)]
    covariance = left.T @ left / (len(labels) - len(classes))
    covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / D * np.eye(D)
    inverse = np.linalg.inv(covariance)
    return lambda f: f @ inverse @ means.T - np.diag(means @ inverse @ means.T) / 2


def logits(fitted, head, features):
    kernel, shift = fitted
    return (features + shift) @ kernel @ head


def centred(x):
    return x - x.mean(axis=1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def head():
    drawn = np.random.default_rng(3).normal(size=(P, K))
    return (drawn / np.linalg.norm(drawn, axis=0)).astype(np.float32)


def test_sequential_tasks_give_the_discriminant_of_all_images_at_once(head, rng):
    """Features that do not drift; the second task repeats a class of the first."""
    tasks = [task(rng, [0, 1, 2]), task(rng, [2, 3, 4])]
    refit = lda(shrink=0.2)
    fitted = refit.fit(learned(refit, [(f, f, y) for f, y in tasks]), head)
    features, labels = (np.concatenate(x) for x in zip(*tasks, strict=True))
    expected = textbook(features, labels, 0.2)(features)
    # The ridge of the head's Gram matrix affects the last digits.
    np.testing.assert_allclose(
        centred(logits(fitted, head, features)), centred(expected), rtol=2e-3, atol=2e-2
    )
    assert [x.dtype for x in fitted] == [np.float32, np.float32]
    assert [x.shape for x in fitted] == [(D, P), (D,)]


def test_a_linear_drift_is_undone(head, rng):
    """The second task's images show how all features changed, so old classes need not recur."""
    (first, y_1), (second, y_2) = task(rng, [0, 1, 2], 200), task(rng, [3, 4], 200)
    drift = np.eye(D) + np.random.default_rng(5).normal(size=(D, D)) / 6
    offset = np.random.default_rng(6).normal(size=D)

    def moved(f):
        return (f @ drift + offset).astype(np.float32)

    refit = lda(shrink=0.1, ridge=0.0)
    state = learned(refit, [(first, first, y_1), (second, moved(second), y_2)])
    expected = learned(refit, [(moved(first),) * 2 + (y_1,), (moved(second),) * 2 + (y_2,)])
    np.testing.assert_allclose(state.mean, expected.mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(state.scatter, expected.scatter, rtol=1e-3, atol=0.3)


def test_a_large_ridge_only_moves_the_means(rng):
    (first, y_1), (second, y_2) = task(rng, [0, 1, 2]), task(rng, [3, 4])
    moved = (second * 1.5 + 2).astype(np.float32)
    refit = lda(ridge=1e9)
    before = learned(refit, [(first, first, y_1)])
    after = learned(refit, [(first, first, y_1), (second, moved, y_2)])
    step = (moved - second).mean(axis=0)
    np.testing.assert_allclose(after.mean[:3], before.mean[:3] + step, rtol=1e-4, atol=1e-4)


def test_the_state_does_not_grow(rng):
    refit = lda()
    one = learned(refit, [(*(task(rng, [0, 1])[:1] * 2), np.zeros(60, np.int32))])
    two = learned(refit, [(f, f, y) for f, y in (task(rng, [0, 1]), task(rng, [2, 3]))])
    sizes = [[x.shape for x in jax.tree.leaves(state)] for state in (refit.init(D, K), one, two)]
    assert sizes[0] == sizes[1] == sizes[2]


def test_unlearned_classes_change_nothing(head, rng):
    """Their columns of the head may have any values."""
    features, labels = task(rng, [0, 1, 2])
    refit = lda()
    state = learned(refit, [(features, features, labels)])
    other = head.copy()
    other[:, 3:] = rng.normal(size=(P, 2))
    for found, expected in zip(refit.fit(state, head), refit.fit(state, other), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_one_class_one_image_and_identical_features_give_finite_maps(head):
    refit = lda()
    one = np.ones((1, D), np.float32)
    alike = np.ones((4, D), np.float32)
    labels = np.array([0, 0, 1, 1], np.int32)
    for tasks in (
        [(one, one, np.zeros(1, np.int32))],
        [(alike, alike, labels)],
        [(alike, alike, labels), (alike, alike + 1, labels + 2)],
    ):
        fitted = refit.fit(learned(refit, tasks), head)
        assert all(np.isfinite(x).all() for x in fitted)


def test_two_classes_with_one_prompt_do_not_affect_the_others(head, rng):
    tasks = [task(rng, [0, 1, 2, 3, 4], 300)]
    head[:, 1] = head[:, 0]
    refit = lda()
    features, labels = tasks[0]
    fitted = refit.fit(learned(refit, [(features, features, labels)]), head)
    others = labels > 1
    found = np.argmax(logits(fitted, head, features[others]), axis=1)
    assert (found == labels[others]).mean() > 0.95


@pytest.mark.parametrize(
    ("options", "what"),
    [({"shrink": 0.0}, "shrink is 0.0"), ({"shrink": 1.5}, "shrink is 1.5"),
     ({"ridge": -1.0}, "ridge is -1.0"), ({"ridge": float("nan")}, "ridge is nan"),
     ({"ridge": 10**400}, "ridge is 1")],
)  # fmt: skip
def test_options_outside_their_range_are_refused(options, what):
    with pytest.raises(UserError, match=f"lda: {what}"):
        lda(**options)
