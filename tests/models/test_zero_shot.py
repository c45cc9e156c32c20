"""The zero-shot head against its definition, and refused inputs."""

import jax
import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.models import CLIP, Companions, normalise, tokenize, zero_shot_head
from magmax_jax.models import zero_shot as module

NAMES = ["aquarium_fish", "cat", "bus", "oak tree"]
TEMPLATES = ["{}", "a {}.", "{} or {}"]


class Letters:
    """A tokenizer with one id per letter, between 48 and 49."""

    def __call__(self, texts):
        return {"input_ids": [[48, *(ord(c) % 40 for c in text), 49] for text in texts]}


@pytest.fixture
def model(legacy) -> CLIP:
    model = CLIP.from_pretrained(legacy)
    model.companions = Companions(Letters())
    return model


def test_tokenize_pads_after_the_end(model):
    ids = tokenize(model, ["ab", "", "abcd"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [
        [48, 17, 18, 49, 49, 49],
        [48, 49, 49, 49, 49, 49],
        [48, 17, 18, 19, 20, 49],
    ]


def test_head_matches_its_definition_and_compiles_once(model, monkeypatch):
    names, templates = ["a", "cat", "x"], ["{}", "a {}.", "{}{}"]
    traces = []
    monkeypatch.setattr(module, "normalise", lambda x: traces.append(x.shape) or normalise(x))
    head = zero_shot_head(model, names, templates, batch_size=4)
    assert head.shape == (12, 3)
    assert head.dtype == np.float32
    assert [shape for shape in traces if shape[0] == 4] == [(4, 12)]  # 9 texts, one compile

    columns = []
    encode = jax.jit(lambda ids: normalise(model.encode_text(ids)))
    for name in names:
        texts = [template.replace("{}", name) for template in templates]
        longest = "9" * 7  # pads all to one length: one compile here too
        mean = np.mean([encode(row[None])[0] for row in tokenize(model, [*texts, longest])[:-1]], 0)
        columns.append(mean / np.linalg.norm(mean))
    expected = np.exp(float(model.logit_scale[...])) * np.stack(columns, axis=1)
    np.testing.assert_allclose(head, expected, rtol=0, atol=2e-5)


def test_refusals(model):
    with pytest.raises(UserError, match=r"'aquarium_fish'.*15 tokens.*at most 9.*shorten"):
        zero_shot_head(model, NAMES, ["{}"])
    with pytest.raises(UserError, match="there are no templates"):
        zero_shot_head(model, ["a", "b", "c"], [])
    with pytest.raises(UserError, match="there are no class names"):
        zero_shot_head(model, [], ["{}"])
    with pytest.raises(UserError, match=r"'a photo' has no \{\}"):
        zero_shot_head(model, ["a"], ["{}", "a photo"])
    with pytest.raises(UserError, match=r"class name 'f\\udcc3r' cannot be encoded as UTF-8"):
        zero_shot_head(model, ["a", "f\udcc3r"], ["{}"])
    model.companions = Companions()
    with pytest.raises(UserError, match=r"no tokenizer.*copy the tokenizer files"):
        zero_shot_head(model, ["a"], ["{}"])


def test_another_models_tokenizer_is_refused(model, checkpoint):
    model.companions = Companions(lambda texts: {"input_ids": [[48, 50] for _ in texts]})
    with pytest.raises(UserError, match=r"up to 50.*vocabulary 50.*copy the tokenizer files"):
        tokenize(model, ["a"])
    modern = CLIP.from_pretrained(checkpoint("modern"))
    modern.companions = Companions(Letters())  # ends in 49, but this model looks for 41
    with pytest.raises(UserError, match=r"eos_token_id 41"):
        tokenize(modern, ["a"])


def test_real_head_distinguishes_classes(real_clip):
    model = CLIP.from_pretrained(real_clip)
    names = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]
    head = np.asarray(zero_shot_head(model, names, ["a photo of a {}.", "a sketch of a {}."]))
    np.testing.assert_allclose(np.linalg.norm(head, axis=0), 27.08, rtol=1e-3)
    cosines = (head.T @ head / 27.08**2)[~np.eye(7, dtype=bool)]
    assert cosines.max() < 0.95
