"""The head that a run stores: the text tower encodes the prompts once per run."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.config import ScenarioConfig
from magmax_jax.models import from_pretrained
from magmax_jax.runs import kept_head
from magmax_jax.runs.file_names import HEAD
from magmax_jax.runs.kept_head import head_of, keep_head
from magmax_jax.scenarios import build_scenario


@pytest.fixture(scope="module")
def heads():
    return build_scenario(ScenarioConfig(dataset="digits", num_tasks=1), 5).heads


@pytest.fixture
def made(tiny_clip, heads, tmp_path):
    """A model, its head of the digits, and a directory that keeps it."""
    model = from_pretrained(tiny_clip)
    head = head_of(model, heads)
    keep_head(tmp_path, *head)
    return model, head, tmp_path


@pytest.fixture
def encoded(monkeypatch):
    """Counts how often the text tower makes a head."""
    made = []
    original = kept_head.zero_shot_head

    def note(model, *head):
        made.append(head)
        return original(model, *head)

    monkeypatch.setattr(kept_head, "zero_shot_head", note)
    return made


def test_the_stored_head_is_read_instead_of_recomputed(made, heads, encoded):
    model, head, run = made
    found = head_of(model, heads, run)
    assert not encoded and found.made_from == head.made_from
    np.testing.assert_array_equal(found.weights, head.weights)
    np.testing.assert_array_equal(load_file(run / HEAD)["head"], head.weights)
    before = (run / HEAD).stat().st_mtime_ns
    keep_head(run, *found)
    assert (run / HEAD).stat().st_mtime_ns == before


def test_other_prompts_or_weights_give_a_new_head(made, heads, encoded, tiny_clip):
    model, head, run = made
    others = [each._replace(templates=("a digit {}.",)) for each in heads]
    other = head_of(model, others, run)
    assert len(encoded) == 1 and not np.array_equal(other.weights, head.weights)
    changed = from_pretrained(tiny_clip)
    changed.logit_scale[...] = changed.logit_scale[...] + 1
    changed_head = head_of(changed, heads, run)
    assert len(encoded) == 2
    np.testing.assert_allclose(changed_head.weights, np.e * np.asarray(head.weights), rtol=1e-5)
    keep_head(run, *changed_head)
    np.testing.assert_array_equal(load_file(run / HEAD)["head"], changed_head.weights)


def test_a_damaged_file_is_replaced(made, heads, encoded):
    model, head, run = made
    (run / HEAD).write_bytes((run / HEAD).read_bytes()[:-8])
    found = head_of(model, heads, run)
    assert len(encoded) == 1
    np.testing.assert_array_equal(found.weights, head.weights)
    keep_head(run, *found)
    np.testing.assert_array_equal(load_file(run / HEAD)["head"], head.weights)


def test_damaged_numbers_are_recomputed(made, heads, encoded):
    model, head, run = made
    content = bytearray((run / HEAD).read_bytes())
    content[-1] ^= 1
    (run / HEAD).write_bytes(content)
    found = head_of(model, heads, run)
    assert len(encoded) == 1
    np.testing.assert_array_equal(found.weights, head.weights)


def test_the_image_tower_does_not_affect_it(made, heads, tiny_clip):
    _, head, _ = made
    larger = from_pretrained(tiny_clip, 32)
    np.testing.assert_array_equal(head_of(larger, heads).weights, head.weights)
