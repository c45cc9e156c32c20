"""Folder names as class names in prompts: WordNet ids and leading numbers."""

import pytest

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import prompt_names
from magmax_jax.data.data_set import DataSet
from magmax_jax.data.own_names import own_names
from magmax_jax.data.published import wordnet_ids
from magmax_jax.errors import ConfigError
from magmax_jax.registry import DATA_SETS
from magmax_jax.scenarios.datasets_list import Member
from magmax_jax.scenarios.heads import heads_of


def test_wordnet_ids_get_imagenet_names():
    found = own_names(["n01440764", "my_cat", "n02099601", "n02012849"])
    assert found.names == ("tench", "my cat", "Golden Retriever", "crane bird")
    assert found.note == (
        "3 of 4 classes are named by WordNet ids; prompts use their names from imagenet (n01440764 "
        "-> tench, n02099601 -> Golden Retriever, n02012849 -> crane bird); --scenario.names "
        "folder keeps them as they are"
    )
    ids = wordnet_ids("imagenet")
    assert len(ids) == 1000 and own_names(list(ids)).names == tuple(ids.values())
    # ImageNet-R spells 200 of them differently: if two tables have all ids, the first one counts.
    of_r = list(wordnet_ids("imagenet_r"))
    assert own_names(of_r).names == tuple(ids[each] for each in of_r)


def test_other_tables_fill_gaps_of_the_first():
    row = DataSet(name="x", read=lambda *_: None, wordnet_ids=("n99999999",), class_names=("yak",))
    DATA_SETS.register("test_ids", row)
    try:
        found = own_names(["n99999999", "n01440764", "n01443537"])
    finally:
        DATA_SETS.unregister("test_ids")
    assert found.names == ("yak", "tench", "goldfish")
    assert "from imagenet and test_ids (" in found.note


def test_all_ids_without_a_name_are_listed_and_refused():
    with pytest.raises(
        ConfigError, match=r"^pets: no bundled table .* ids n00000001, n00000002, .*=folder"
    ):
        own_names(["n00000001", "n01440764", "n00000002"], "pets")
    with pytest.raises(
        ConfigError, match=r"^pets: no bundled table has a name for the WordNet id n0"
    ):
        heads(["n00000001"])
    (head,), notes = heads(["n00000001"], names="folder")
    assert head.class_names == ("n00000001",) and not notes


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["001.Black_footed_Albatross", "012.Ani"], ("Black footed Albatross", "Ani")),
        (["1_cat", "2_dog", "10_3d_printer"], ("cat", "dog", "3d printer")),
        (["01-dog", "02 - cat", "3) owl"], ("dog", "cat", "owl")),
        (["000 雪", "001 bus"], ("雪", "bus")),
        (["n02085620-Chihuahua", "n02113624-toy_poodle"], ("Chihuahua", "toy poodle")),
    ],
)
def test_numbers_before_all_names_are_dropped(given, names):
    found = own_names(given)
    assert found.names == names == prompt_names("folder", given)
    assert found.note.startswith(
        f"numbers before class names are left out of prompts ({given[0]} -> {names[0]}, "
    )


@pytest.mark.parametrize(
    "given",
    [
        ["3d_printer", "7up"],
        ["1_cat", "dog"],
        ["2_door", "4_door"],
        ["1.5_litres", "2.0_gallons"],
        ["0-9 years", "10-19 years"],
        ["1_Cat", "2_cat"],
        ["7_eleven"],
        ["1_-_", "2_-_"],
    ],
)
def test_numbers_that_belong_to_names_are_kept(given):
    names = tuple(" ".join(name.replace("_", " ").split()) for name in given)
    assert own_names(given) == (names, "", False)


@pytest.mark.parametrize("given", [["0", "1", "2"], ["class_1", "class_2"], ["Label 3", "c4"]])
def test_bare_numbers_are_kept_and_noted(given):
    (head,), (note,) = heads(given)
    assert head.class_names == tuple(name.replace("_", " ") for name in given)
    assert note.startswith(f"pets: classes are named by numbers only ({head.class_names[0]}, ")
    assert heads(given, templates=("the digit {}",))[1] == []
    assert not own_names([*given, "cat"]).bare


def test_a_run_begun_with_raw_folder_names_continues_with_them():
    given = ["n01440764", "n00000001"]
    (head,), (note,) = heads(given, recorded=given)
    assert head.class_names == tuple(given)
    assert note.startswith("pets: prompts keep the names of the class folders (n01440764, n000")
    (head,), (note,) = heads(["1_cat", "2_dog"], recorded=["1 cat", "2 dog"])
    assert head.class_names == ("1 cat", "2 dog") and "the run started with them" in note
    (head,), (note,) = heads(["1_cat", "2_dog"], recorded=["cat", "dog"])
    assert head.class_names == ("cat", "dog") and note.startswith("pets: numbers before")
    (head,), notes = heads(["red_cat"], recorded=["red cat"])
    assert head.class_names == ("red cat",) and notes == []
    (head,), (note,) = heads(["1_cat", "2_dog"], recorded=["other", "classes"])
    assert head.class_names == ("cat", "dog")


def test_published_data_sets_keep_their_names():
    names = ["T-shirt/top", "n01440764"]
    for style, expected in (("published", "T-shirt/top"), ("folder", "T-shirt top")):
        (head,), notes = heads(names, dataset="fashion_mnist", names=style)
        assert head.class_names == (expected, "n01440764") and notes == []


def heads(class_names, recorded=(), dataset="folder", **changes):
    config = ScenarioConfig(dataset=dataset, **changes)
    return heads_of(config, [Member(dataset, "pets", 1)], [class_names], recorded)
