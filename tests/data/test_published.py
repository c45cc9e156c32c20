import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from magmax_jax.data import order, prompt_names, templates
from magmax_jax.data.published import published_domains, wordnet_ids
from magmax_jax.errors import UserError
from tests.data import SHARED, needs_shared


def reference(name):
    return json.loads((SHARED / "reference" / f"{name}.json").read_text())


def test_templates():
    assert len(templates("cifar100")) == 18 and len(templates("cub200")) == 80
    assert templates("digits") == templates("mnist") == ('a photo of the number: "{}".',)
    assert templates("eurosat/rgb:2.0.0") == templates("eurosat")
    assert templates("emnist") == ('a photo of the digit character: "{}".',)
    assert templates("pcam") == ("this is a photo of {}",)
    assert templates("anything else") == ("a photo of a {}.",)
    assert all("{}" in t for name in ("cifar100", "imagenet_r", "dtd") for t in templates(name))


def test_orders_are_permutations():
    names = tuple(map(str, range(100)))
    np.testing.assert_array_equal(np.sort(order("cifar100", names)), np.arange(100))
    assert order("cifar100", names[:99]) is None
    assert order("digits", names[:10]) is None


def test_orders_follow_names_not_positions():
    names = published_domains("domainnet")
    np.testing.assert_array_equal(order("domainnet", names), np.arange(6))
    np.testing.assert_array_equal(order("domainnet", names[::-1]), np.arange(6)[::-1])


def test_prompt_names():
    assert prompt_names("folder", ["golden_retriever"]) == ("golden retriever",)
    assert prompt_names("cifar100", ["aquarium_fish"]) == ("aquarium_fish",)
    assert prompt_names("cub200", ["001.Laysan_Albatross"]) == ("Laysan Albatross",)
    assert prompt_names("sun397", ["/a/apartment_building/outdoor"]) == (
        "apartment building outdoor",
    )
    assert prompt_names("gtsrb", list(map(str, range(43))))[14] == "stop"
    assert prompt_names("fashion_mnist", ["T-shirt/top"]) == ("T-shirt/top",)
    assert prompt_names("cub200", list(map(str, range(200))))[1] == "Laysan Albatross"


def test_wordnet_ids_get_names():
    assert prompt_names("imagenet_r", ["n01484850", "n01443537"]) == (
        "great white shark",
        "goldfish",
    )
    with pytest.raises(UserError, match="WordNet id n00000000 is not one of its 200 classes"):
        prompt_names("imagenet_r", ["n01443537", "n00000000"])
    ids = wordnet_ids("imagenet_r")
    assert len(ids) == len(set(ids.values())) == 200 and wordnet_ids("cub200") == {}


def test_imagenet_names_follow_the_wordnet_ids():
    """CLIP's 1000 names by position, against those of ImageNet-R's 200 with the same spelling."""
    labels = tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()
    names = wordnet_ids("imagenet")
    assert list(names) == labels and tuple(names.values()) == prompt_names("imagenet", labels)
    plain = str.maketrans("", "", " _-")
    alike = [
        names[key].lower().translate(plain) == name.lower().translate(plain)
        for key, name in wordnet_ids("imagenet_r").items()
    ]
    assert sum(alike) >= 150
    assert (names["n01440764"], names["n15075141"]) == ("tench", "toilet paper")


def test_plain_names():
    assert prompt_names("cifar100", ["aquarium_fish"], plain=True) == ("aquarium fish",)
    assert prompt_names("imagenet_r", ["n01484850"], plain=True) == ("great white shark",)
    assert prompt_names("fashion_mnist", ["T-shirt/top"], plain=True) == ("T-shirt top",)
    assert prompt_names("folder", ["red_fox"], plain=True) == ("red fox",)
    signs = prompt_names("gtsrb", list(map(str, range(43))), plain=True)
    assert signs[22] == "red and white triangle rough bumpy road warning"


@needs_shared("reference")
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cars196", "Cars"),
        ("cifar10", "CIFAR10"),
        ("cifar100", "CIFAR100"),
        ("cub200", "CUB200"),
        ("domainnet", "DomainNet"),
        ("dtd", "DTD"),
        ("eurosat", "EuroSAT"),
        ("food101", "Food101"),
        ("gtsrb", "GTSRB"),
        ("mnist", "MNIST"),
        ("imagenet2012", "ImageNet"),
        ("imagenet_r", "ImageNetR"),
        ("resisc45", "RESISC45"),
        ("stl10", "STL10"),
        ("sun397", "SUN397"),
        ("svhn_cropped", "SVHN"),
    ],
)
def test_templates_match_the_reference(name, theirs):
    assert list(templates(name)) == reference("prompt_templates")[theirs]


@needs_shared("reference")
def test_orders_and_names_match_the_reference():
    names = reference("class_names")
    for name, expected in reference("class_orders").items():
        listed = names.get(name, list(map(str, range(len(expected)))))
        assert order(name, listed).tolist() == expected
        # Other sources may sort names differently, as TFDS's domainnet does.
        resorted = sorted(listed, key=str.lower) if name in names else listed
        assert [resorted[i] for i in order(name, resorted)] == [listed[i] for i in expected]
    for name, expected in reference("domain_orders").items():
        assert order(name, expected["domains"]).tolist() == expected["order"]
    assert list(prompt_names("gtsrb", names["gtsrb"])) == names["gtsrb"]
    assert list(wordnet_ids("imagenet_r").values()) == names["imagenet_r"]
    # The published code lists names with underscores but puts them into prompts without.
    for name in ("imagenet_r", "domainnet"):
        spaced = [each.replace("_", " ") for each in names[name]]
        assert list(prompt_names(name, names[name])) == spaced
    by_id = wordnet_ids("imagenet_r")
    spaced = [name.replace("_", " ") for name in by_id.values()]
    assert list(prompt_names("imagenet_r", list(by_id))) == spaced
    camel_case = ["AnnualCrop", "Forest", *map(str, range(8))]
    eurosat = list(names["eurosat_openai_names"].values())
    assert list(prompt_names("eurosat", camel_case)) == eurosat
