"""Scenarios of images that are passed as arrays instead of named."""

import numpy as np
import pytest

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import Source, as_source
from magmax_jax.errors import UserError
from magmax_jax.scenarios import build_scenario

NAMES = ("ant_hill", "bee", "cow", "dog")


def source(names=NAMES, domains=("ink", "oil")) -> Source:
    labels = np.tile(np.arange(4), 4)
    where = {"domains": np.repeat([0, 1], 8), "domain_names": domains} if domains else {}
    return as_source(Source(np.zeros((16, 8, 8), np.uint8), labels, names, **where))


def build(train=None, test=None, **fields):
    config = ScenarioConfig(dataset="arrays:0123", **fields)
    return build_scenario(config, 5, (train or source(), test or source()))


def test_classes_and_domains_are_the_tasks():
    by_class = build(num_tasks=2)
    assert (by_class.name, len(by_class.tasks)) == ("arrays, class-incremental", 2)
    assert by_class.heads[0].class_names == ("ant hill", "bee", "cow", "dog")
    assert by_class.heads[0].templates == ("a photo of a {}.",)
    assert by_class.domain_names == ("ink", "oil")
    by_domain = build(kind="domain", templates=("{}!",))
    assert [task.name for task in by_domain.tasks] == ["ink", "oil"]
    assert by_domain.heads[0].templates == ("{}!",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "datasets"}, "images that are passed are one data set, so choose another kind"),
        ({"test": source(("ant", *NAMES[1:]))}, "arrays: class ant_hill is in train but not in"),
        ({"test": source(NAMES[::-1])}, "arrays: train and test list the same class names in"),
        ({"kind": "domain", "train": source(domains=()), "test": source(domains=())}, "no domains"),
    ],
)
def test_mismatched_images_give_a_one_sentence_error(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)
