import pickle

import numpy as np
import pytest

from magmax_jax.data.concat import join_datasets, join_domains
from magmax_jax.data.source import Source
from magmax_jax.errors import UserError


def source(labels, names, domains=None, domain_names=(), side=4, first=0):
    """Constant images: 0 + first, 1 + first, ..."""
    images = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None]
    return Source(
        images=np.broadcast_to(images, (len(labels), side, side, 3)),
        labels=np.array(labels, np.int32),
        class_names=tuple(names),
        domains=None if domains is None else np.array(domains, np.int32),
        domain_names=tuple(domain_names),
        image_shape=(side, side),
    )


def values(joined):
    return [int(joined.images[i][0, 0, 0]) for i in range(len(joined.images))]


def test_domains_keep_their_classes():
    parts = [source([0, 1], "ab"), source([1], "ab", first=2), source([0, 0], "ab", first=3)]
    joined = join_domains(parts, ["photo", "art", "toy"])
    np.testing.assert_array_equal(joined.labels, [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(joined.domains, [0, 0, 1, 2, 2])
    assert joined.class_names == ("a", "b") and joined.domain_names == ("photo", "art", "toy")
    assert values(joined) == [0, 1, 2, 3, 4] and joined.image_shape == (4, 4)
    assert joined.labels.dtype == joined.domains.dtype == np.int32


def test_domains_of_different_classes_are_refused():
    parts = [source([0], "ab"), source([0], "a")]
    with pytest.raises(UserError, match="photo and art have different classes"):
        join_domains(parts, ["photo", "art"])


def test_data_sets_keep_classes_apart():
    parts = [source([0, 1], "ab"), source([2, 0], "abc", first=2), source([1], "ab", first=4)]
    joined = join_datasets(parts, ["one", "two", "three"])
    np.testing.assert_array_equal(joined.labels, [0, 1, 4, 2, 6])
    assert joined.class_names == tuple("ababcab") and joined.domains is None
    assert values(joined) == [0, 1, 2, 3, 4] and joined.labels.dtype == np.int32
    copy = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(copy.images[4], joined.images[4])


def test_domains_of_data_sets_have_both_names():
    parts = [
        source([0], "ab"),
        source([0, 1], "ab", [1, 0], ["photo", "art"]),
        source([0, 0], "ab", [0, -1], ["art"]),
    ]
    joined = join_datasets(parts, ["one", "two", "three"])
    assert joined.domain_names == ("two/photo", "two/art", "three/art")
    np.testing.assert_array_equal(joined.domains, [-1, 1, 0, 2, -1])
    assert joined.domains.dtype == np.int32


def test_a_shape_is_given_only_if_all_agree():
    assert join_datasets([source([0], "a"), source([0], "a", side=5)], "xy").image_shape is None
