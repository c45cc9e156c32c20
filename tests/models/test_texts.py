"""Texts as people write them get the ids of OpenAI's tokenizer."""

# ruff: noqa: RUF001 (the characters are what is tested)

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from magmax_jax import models
from magmax_jax.data import prompt_names
from magmax_jax.errors import UserError
from magmax_jax.models import CLIP, TextConfig, tokenize
from magmax_jax.models.checkpoint import read_tokenizer
from magmax_jax.models.clip.tokens import cleaned, token_ids
from magmax_jax.models.text_ids import unpadded_ids
from magmax_jax.models.zero_shot import alike
from magmax_jax.registry import DATA_SETS

TEXT = TextConfig(
    width=2,
    layers=1,
    heads=1,
    mlp=2,
    activation="gelu",
    epsilon=1e-5,
    vocabulary=49408,
    context=77,
    eos=49407,
)

# Output of `SimpleTokenizer.encode` of openai/CLIP (clip/simple_tokenizer.py), between 49406 and
# 49407.
OPENAI = [
    ("a photo of a cat.", [320, 1125, 539, 320, 2368, 269]),
    ("a photo of a person’s hand.", [320, 1125, 539, 320, 2533, 568, 2463, 269]),
    ("a photo of a “cat”.", [320, 1125, 539, 320, 257, 2368, 2811]),
    ("salt &amp;amp; pepper", [6611, 261, 8253]),
    ("rock &apos;n&#39; roll", [2172, 262, 333, 262, 3341]),
    ("a ﬁsh", [320, 2759]),
    ("ｃａｔ", [2368]),
    ("cafÃ©", [15304]),
    ("ΟΔΟΣ", [138, 123, 138, 112, 138, 123, 139, 480]),
    ("a\xa0cat\u200b", [320, 2368, 9844]),
    ("\ufeffa c\x00at", [320, 2368]),
    ("İstanbul ǅ", [328, 16384, 11231, 67, 129, 378]),
]


@pytest.fixture(scope="module")
def tokenizer(real_clip):
    return read_tokenizer(real_clip)


@pytest.mark.parametrize(("text", "ids"), OPENAI)
def test_ids_match_openais(text, ids, tokenizer):
    assert token_ids(tokenizer, TEXT, [text]).tolist() == [[49406, *ids, 49407]]


def test_published_prompts_keep_the_ids_of_transformers(tokenizer):
    rows = [(row.templates[0], prompt_names(n, row.class_names)) for n, row in DATA_SETS.items()]
    texts = [template.replace("{}", name) for template, names in rows for name in names]
    texts += [template for row in DATA_SETS.values() for template in row.templates]
    ours, theirs = token_ids(tokenizer, TEXT, texts), tokenizer(texts)["input_ids"]
    assert len(texts) > 1900
    for text, row, expected in zip(texts, ours, theirs, strict=True):
        np.testing.assert_array_equal(row[: len(expected)], expected, err_msg=text)


def test_different_spellings_of_one_text_are_unified():
    assert cleaned("a “cat’s”  &lt;toy&gt;\n") == 'a "cat\'s" <toy>'
    assert cleaned("Ｃａｔ") == cleaned("cat") == cleaned(" CAT ")
    assert cleaned("a {}: 100% of it's #1_thing") == "a {}: 100% of it's #1_thing"


def test_a_case_sensitive_tokenizer_gets_unchanged_texts(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    upper, lower = tokenize(model, ["A", "a"])
    assert upper.tolist() != lower.tolist()
    assert tokenize(model, ["’"]).tolist() == [[256, *model.tokenizer("’")["input_ids"][1:-1], 257]]


class PanicException(BaseException):
    """As pyo3 names what Rust's libraries raise when they give up."""


@pytest.mark.parametrize("raised", [PanicException("no entry"), KeyError("no entry")])
def test_a_tokenizer_that_gives_up_is_a_sentence(raised):
    def tokenizer(texts):
        raise raised

    with pytest.raises(UserError, match=r"tokenizer cannot read 'a cat' \('?no entry'?\): fetch"):
        unpadded_ids(tokenizer, ["a cat"], ["a cat"], 77)


def test_an_interrupted_tokenizer_is_not_taken_for_a_broken_one():
    def tokenizer(texts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpadded_ids(tokenizer, ["a cat"], ["a cat"], 77)


def test_broken_settings_of_a_tokenizer_are_a_sentence(tiny_clip, tmp_path):
    shutil.copytree(tiny_clip, tmp_path / "clip")
    file = tmp_path / "clip" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": "many"}))
    model = CLIP.from_pretrained(tmp_path / "clip")
    with pytest.raises(UserError, match="the model's tokenizer cannot read 'a cat'") as raised:
        tokenize(model, ["a cat"])
    assert "\n" not in str(raised.value)


def test_classes_with_the_same_text_are_found(bundled):
    names = ["Cat", "dog", "ca\u200bt", "cat", "salt &amp; pepper", "salt & pepper", "DOG "]
    assert alike(bundled, names, ["a {}.", "the {}"]) == [(0, 3), (1, 6), (4, 5)]
    assert alike(bundled, ["cat", "dog"], ["a {}."]) == []
    # Classes that are equal under one template may differ under another.
    assert alike(bundled, ["a cat", "a  cat", "cat"], ["{}", "x{}"]) == [(0, 1)]
    assert alike(bundled, ["cat", " cat"], ["{}", "x{}"]) == []


def test_images_are_not_classified_among_classes_with_the_same_text(bundled):
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UserError, match=r"'Cat' and 'cat' have the same prompts: give"):
        bundled.classify(image, ["Cat", "dog", "cat"])
    assert bundled.classify(image, ["cat", "dog"]).labels


@pytest.fixture(scope="module")
def bundled():
    return CLIP.from_pretrained(Path(models.__file__).parents[1] / "cli" / "assets" / "tiny-clip")
