import hashlib
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magmax_jax.data.published import published_domains, wordnet_ids
from magmax_jax.data.seeded_split import (
    SeededSplit,
    check_fingerprint,
    divide,
    fingerprint,
)
from magmax_jax.errors import UserError
from magmax_jax.registry import DATA_SETS

shares = st.sampled_from([(0.8, 0.2), (0.7, 0.3), (0.6, 0.2), (0.8, 0.1), (0.05, 0.9)])
images = st.lists(st.tuples(st.text(max_size=4), st.integers(0, 3)), unique_by=lambda it: it[0])


def hows(draw):
    train, test = draw(shares)
    return SeededSplit(train, test, draw(st.booleans()), draw(st.integers(0, 9)))


@given(st.data(), images)
def test_shares_of_each_group_and_no_image_twice(data, images):
    how = hows(data.draw)
    labels = np.array([label for _, label in images], np.int32)
    rows = divide([name for name, _ in images], labels, how)
    assert not set(rows["train"]) & set(rows["test"])
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in rows.values())
    groups = labels if how.by_class else np.zeros_like(labels)
    for group in np.unique(groups):
        size = (groups == group).sum()
        train, test = ((groups[rows[split]] == group).sum() for split in ("train", "test"))
        assert abs(train - size * how.train) <= 0.5 + 1e-9
        assert abs(test - size * how.test) <= 0.5 + 1e-9
        if how.train + how.test == 1:
            assert train + test == size


@given(st.data(), images)
def test_the_order_of_records_does_not_matter(data, images):
    how, shuffled = hows(data.draw), data.draw(st.permutations(images))

    def chosen(images):
        names = [name for name, _ in images]
        rows = divide(names, np.array([label for _, label in images]), how)
        return {split: {names[i] for i in rows[split]} for split in rows}

    assert chosen(images) == chosen(shuffled)


def test_images_are_ranked_by_a_hash_of_seed_and_name():
    names = [f"n{i}/art_{i}.jpg" for i in range(10)]
    ranked = sorted(range(10), key=lambda i: hashlib.sha256(f"5:{names[i]}".encode()).digest())
    rows = divide(names, np.zeros(10, int), SeededSplit(by_class=False))
    assert sorted(ranked[8:]) == rows["test"].tolist()
    other = divide(names, np.zeros(10, int), SeededSplit(by_class=False, seed=6))
    assert other["test"].tolist() != rows["test"].tolist()


def test_the_catalogue_verifies_the_published_list():
    """imagenet_r's test images, 6,000 of 30,000, are listed in a public file."""
    file = resources.files("magmax_jax.data.datasets") / "imagenet_r_test.txt"
    names = file.read_text().splitlines()
    how = DATA_SETS["imagenet_r"].tfds.split
    assert len(names) == 6000 and fingerprint(names) == how.fingerprint
    ranks = sorted(hashlib.sha256(f"{how.seed}:{name}".encode()).hexdigest() for name in names)
    assert 0.79 < int(ranks[0][:8], 16) / 16**8 < 0.81  # the last fifth by hash
    domains = {name.split("/")[1].rpartition("_")[0] for name in names}
    assert domains == set(published_domains("imagenet_r"))
    assert {name.split("/")[0] for name in names} == set(wordnet_ids("imagenet_r"))


def test_fingerprints():
    known = hashlib.sha256(b"a/art_0.jpg\nb/toy_1.jpg").hexdigest()
    assert fingerprint(["b/toy_1.jpg", "a/art_0.jpg"]) == known
    how = SeededSplit(fingerprint=known)
    check_fingerprint("toys", ["b/toy_1.jpg", "a/art_0.jpg"], how)
    check_fingerprint("toys", ["b/toy_1.jpg"], SeededSplit())
    with pytest.raises(UserError, match=r"toys: its 1 test images are not .*\(seed 5\)"):
        check_fingerprint("toys", ["b/toy_1.jpg"], how)
