"""Counts from predictions, on the host."""

from types import SimpleNamespace

import numpy as np

from magmax_jax.evaluation.counts import Counts, Predicted, as_matrix, as_pairs

CLASSES, IMAGES, TASKS = 30_000, 2_000, 3


def scenario():
    """What counting needs of a scenario: a third of the images is in each task."""
    draw = np.random.default_rng(0)
    return SimpleNamespace(
        test=SimpleNamespace(labels=draw.integers(0, CLASSES, IMAGES).astype(np.int32)),
        task_of=np.arange(IMAGES, dtype=np.int32) % TASKS,
        domain_of=np.full(IMAGES, -1, np.int32),
        tasks=(None,) * TASKS,
        domain_names=(),
        num_classes=CLASSES,
    )


def predicted(images: np.ndarray, padding: int = 0) -> Predicted[np.ndarray]:
    """Predictions of images: wrong by two classes for every other one, top 5 for those of class
    numbers that divide by 3."""
    label = scenario().test.labels[images]
    rank = np.where(images % 2, 0, np.where(label % 3, 7, 4))
    guess = np.where(rank, (label + 2) % CLASSES, label)
    found = Predicted(images, guess, rank, np.minimum(rank, 4))
    rows = np.pad(np.stack(found), [(0, 0), (0, padding)], constant_values=-1)
    return Predicted(*rows.astype(np.int32))


def test_confusions_take_a_line_for_every_pair_that_occurs():
    """A matrix of so many classes would take 3.6 GB."""
    images, facts = np.arange(IMAGES), scenario()
    counts = Counts.of(predicted(images), facts)
    label, guess = facts.test.labels, predicted(images).prediction
    pairs = {(int(i), int(j)) for i, j in zip(label, guess, strict=True)}
    assert [tuple(pair) for pair in counts.confusions[:, :2].tolist()] == sorted(pairs)
    assert counts.confusions.dtype == np.int32 and len(pairs) <= IMAGES
    assert counts.confusions[:, 2].sum() == IMAGES and counts.confusions[:, 2].max() > 1
    by_class = np.zeros(CLASSES, int)
    np.add.at(by_class, counts.confusions[:, 0], counts.confusions[:, 2])
    np.testing.assert_array_equal(by_class, counts.total.sum((0, 1)))
    assert sum(array.nbytes for array in counts) < 5_000_000


def test_counts_do_not_depend_on_padding_or_order():
    facts, images = scenario(), np.arange(IMAGES)
    plain = Counts.of(predicted(images), facts)
    mixed = Counts.of(predicted(np.random.default_rng(1).permutation(images), padding=5), facts)
    for one, other in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(one, other)
    right = IMAGES // 2
    near = right + (facts.test.labels[::2] % 3 == 0).sum()
    found = [int(each.sum()) for each in plain[:5]]
    assert found == [right, right, near, IMAGES, IMAGES]
    np.testing.assert_array_equal(plain.total.sum((1, 2)), np.bincount(facts.task_of))


def test_some_of_the_images_or_none():
    some = Counts.of(predicted(np.array([3, 8])), scenario())
    assert some.total.sum() == 2 and len(some.confusions) == 2
    none = Counts.of(predicted(np.arange(0), padding=4), scenario())
    assert none.total.sum() == 0 and none.confusions.shape == (0, 3)


def test_a_matrix_and_its_pairs_are_the_same():
    matrix = np.random.default_rng(0).integers(0, 2, (7, 7), np.uint8) * 200
    pairs = as_pairs(matrix)
    assert pairs.dtype == np.int64 and len(pairs) == np.count_nonzero(matrix) < matrix.size
    np.testing.assert_array_equal(as_matrix(pairs, 7), matrix)
