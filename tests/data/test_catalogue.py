import re

import pytest
import tensorflow_datasets as tfds

from magmax_jax.data import DataSet, FromTfds, load_source
from magmax_jax.data.catalogue import LISTS, builder_of, epochs, find
from magmax_jax.data.data_set import DEFAULT_EPOCHS
from magmax_jax.data.published import order, prompt_names, published_domains, templates
from magmax_jax.registry import DATA_SETS

ROWS = list(DATA_SETS.values())
ALL = pytest.mark.parametrize("data", ROWS, ids=lambda data: data.name)
BUILT_IN = [data for data in ROWS if data.read]
PREPARED = [data for data in ROWS if data.tfds]
TFDSS_OWN = [data for data in PREPARED if not data.tfds.module]


@ALL
def test_every_module_registers_the_row_of_its_name(data):
    assert DATA_SETS[data.name] is data and data.has_sizes
    assert not data.wordnet_ids or len(data.wordnet_ids) == len(data.class_names)


def test_a_row_has_exactly_one_way_to_be_read():
    for ways in ({}, {"read": load_source, "tfds": FromTfds(builder="mnist")}):
        with pytest.raises(ValueError, match="mine: give precisely one of read and tfds"):
            DataSet(name="mine", **ways)


@ALL
def test_prompts(data):
    assert all(prompt.count("{}") == 1 for prompt in templates(data.name))
    codes = [str(i) for i in range(data.classes)]
    names = prompt_names(data.name, codes)
    assert len(names) == data.classes and (names == tuple(codes)) == (data.naming != "listed")
    assert len(set(names)) == data.classes or data.name == "imagenet"
    re.compile(data.drop)


@ALL
def test_orders_and_domains(data):
    learned = order(data.name, [str(i) for i in range(data.classes)])
    assert learned is None or sorted(learned) == list(range(data.classes))
    assert bool(published_domains(data.name)) == bool(data.tfds and data.tfds.domains)


@pytest.mark.parametrize("data", BUILT_IN, ids=lambda data: data.name)
def test_sizes_of_bundled_data(data):
    train, test = load_source(data.name, "train"), load_source(data.name, "test")
    assert (len(train), len(test)) == (data.train_size, data.test_size)
    assert len(train.class_names) == data.classes
    assert (train.domains is not None) == (data.name == "digits_styles")


@ALL
def test_splits(data):
    assert data.train_size > 0 and data.test_size > 0 and data.epochs > 0
    split = data.tfds and data.tfds.split
    if split:
        assert split.train > 0 < split.test
        assert split.train + split.test <= 1
        total = data.train_size / split.train
        assert total == pytest.approx(data.test_size / split.test)
        assert not split.fingerprint or re.fullmatch(r"[0-9a-f]{64}", split.fingerprint)


@pytest.mark.parametrize("data", TFDSS_OWN, ids=lambda data: data.name)
def test_builders_exist_in_tfds(data):
    """Needs no prepared data: checks the builder class's own configs."""
    base, _, config = data.tfds.builder.partition("/")
    builder = tfds.builder_cls(base)
    configs = [each.name for each in builder.BUILDER_CONFIGS]
    assert not config or config in configs
    if data.tfds.domains == "configs":
        assert set(published_domains(data.name)) == set(configs)


@pytest.mark.parametrize(("name", "entries"), LISTS.items())
def test_lists(name, entries):
    for entry in entries:
        known, _, number = entry.partition("@")
        assert known in DATA_SETS and int(number) > 0
    assert len(set(entries)) == len(entries) == {"eight": 8, "fourteen": 13, "twenty": 18}[name]


def test_names():
    assert find("caltech_birds2011:0.2.0").name == find("cub200").name == "cub200"
    assert find("eurosat/rgb:2.0.0").name == "eurosat"
    assert find("emnist/digits:3.1.0") is find("emnist:3.1.0") is DATA_SETS["emnist"]
    assert find("imagenet_r:2.0.0").name == "imagenet_r" and find("domainnet/real").domain_names
    for other in ("emnist/letters", "emnist/letters:3.1.0", "eurosat/all", "cifar100/foo"):
        assert find(other) is None and epochs(other) == DEFAULT_EPOCHS
        assert templates(other) == ("a photo of a {}.",)
    assert find("anything") is find("folder:mnist") is find("") is None
    assert (epochs("svhn_cropped"), epochs("anything")) == (4, DEFAULT_EPOCHS)


def test_builder_names():
    assert builder_of("cub200") == builder_of("caltech_birds2011") == "caltech_birds2011"
    assert builder_of("eurosat") == "eurosat/rgb" and builder_of("eurosat/all") == "eurosat/all"
    assert builder_of("emnist:3.0.0") == "emnist/digits:3.0.0"
    assert builder_of("emnist/letters:3.0.0") == "emnist/letters:3.0.0"
    assert builder_of("digits") == "digits"
    assert builder_of("anything/at:1.0.0") == "anything/at:1.0.0"
