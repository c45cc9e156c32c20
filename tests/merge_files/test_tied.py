"""Tied embeddings are one parameter, whatever names checkpoints store them under."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.merge_files.conftest import merge, write

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def language(directory, seed, head="copy", ties=True):
    random = np.random.default_rng(seed)
    content = {
        EMBEDDING: random.normal(size=(50, 8)).astype(np.float32),
        "model.norm.weight": random.normal(size=8).astype(np.float32),
    }
    if head:
        content[HEAD] = content[EMBEDDING] + np.float32(0 if head == "copy" else 1)
    write(directory, content)
    (directory / "config.json").write_text(json.dumps({"tie_word_embeddings": ties}))
    return content


def merged(tmp_path, *flags, models=2):
    names = [tmp_path / f"theta_{i + 1}" for i in range(models)]
    sources = ["--pretrained", tmp_path / "theta_0", "--finetuned", *names]
    assert merge(*sources, *flags, "--output", tmp_path / "out") == 0
    return load_file(tmp_path / "out" / "model.safetensors")


@pytest.mark.parametrize("rule", ["dare", "random_mix", "max_magnitude"])
def test_every_rule_keeps_a_pair_tied(tmp_path, rule):
    for i in range(3):
        language(tmp_path / f"theta_{i}", i)
    found = merged(tmp_path, "--rule", rule, "--out-dtype", "bfloat16")
    assert found[HEAD].tobytes() == found[EMBEDDING].tobytes()


def test_a_stored_copy_changes_nothing(tmp_path):
    """Rules that use all entries count the pair once, as if no copy were stored."""
    found = {}
    for head in ("copy", None):
        for i in range(3):
            language(tmp_path / f"{head}" / f"theta_{i}", i, head=head)
        flags = ["--rule", "ties", "--options", "density=0.3"]
        found[head] = merged(tmp_path / f"{head}", *flags)
    assert found["copy"].pop(HEAD) is not None
    assert found["copy"].keys() == found[None].keys()
    for name, tensor in found[None].items():
        np.testing.assert_array_equal(found["copy"][name], tensor)


def test_models_without_the_copy_get_it_from_their_embedding(tmp_path):
    base = language(tmp_path / "theta_0", 0)
    thetas = [language(tmp_path / "theta_1", 1, head=None), language(tmp_path / "theta_2", 2)]
    found = merged(tmp_path, "--rule", "average", "--scale", 1)
    mean = np.mean([theta[EMBEDDING] for theta in thetas], axis=0)
    assert not np.allclose(mean, base[EMBEDDING])
    for name in (EMBEDDING, HEAD):
        np.testing.assert_allclose(found[name], mean, atol=1e-6)


def test_a_copy_that_theta_0_lacks_is_left_out(tmp_path, capsys):
    language(tmp_path / "theta_0", 0, head=None)
    thetas = [language(tmp_path / "theta_1", 1), language(tmp_path / "theta_2", 2, head=None)]
    found = merged(tmp_path, "--rule", "average", "--scale", 1)
    assert found.keys() == thetas[1].keys()
    mean = np.mean([theta[EMBEDDING] for theta in thetas], axis=0)
    np.testing.assert_allclose(found[EMBEDDING], mean, atol=1e-6)
    assert f"{HEAD} of {tmp_path / 'theta_1'} is left out" in capsys.readouterr().err


def test_untied_embeddings_are_merged_separately(tmp_path):
    thetas = [language(tmp_path / f"theta_{i}", i, head="own", ties=False) for i in range(3)]
    found = merged(tmp_path, "--rule", "average", "--scale", 1)
    for name in (EMBEDDING, HEAD):
        mean = np.mean([theta[name] for theta in thetas[1:]], axis=0)
        np.testing.assert_allclose(found[name], mean, atol=1e-6)


def test_a_model_that_untied_them_is_noted(tmp_path, capsys):
    thetas = [language(tmp_path / f"theta_{i}", i, "own" if i == 2 else "copy") for i in range(3)]
    found = merged(tmp_path, "--rule", "average", "--scale", 1)
    np.testing.assert_allclose(
        found[HEAD], np.mean([theta[HEAD] for theta in thetas[1:]], axis=0), atol=1e-6
    )
    assert f"equal in theta_0, not in {tmp_path / 'theta_2'}" in capsys.readouterr().err


def test_excluding_half_of_a_pair_is_noted(tmp_path, capsys):
    base, *_ = [language(tmp_path / f"theta_{i}", i) for i in range(3)]
    found = merged(tmp_path, "--exclude", HEAD)
    np.testing.assert_array_equal(found[HEAD], base[HEAD])
    assert f"{HEAD} stays theta_0's" in capsys.readouterr().err


def test_a_state_keeps_pairs_as_one(tmp_path):
    for i in range(3):
        language(tmp_path / f"theta_{i}", i, head=None if i == 2 else "copy")
    first = ["--pretrained", tmp_path / "theta_0", "--finetuned", tmp_path / "theta_1"]
    state = ["--state", tmp_path / "state"]
    assert merge(*first, *state, "--output", tmp_path / "first") == 0
    again = ["--finetuned", tmp_path / "theta_2", *state, "--output", tmp_path / "second"]
    assert merge(*again) == 0
    once = merged(tmp_path)
    found = load_file(tmp_path / "second" / "model.safetensors")
    for name, tensor in once.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_head_that_no_model_has_stays_tied(tmp_path):
    """As in BERT: models without the head still have its tied embedding."""
    head = {
        "cls.predictions.bias": np.ones(50, np.float32),
        "cls.predictions.transform.dense.weight": np.ones((8, 8), np.float32),
    }
    for i in range(3):
        content = language(tmp_path / f"theta_{i}", i, head=None)
        if i == 0:
            copy = {"cls.predictions.decoder.weight": content[EMBEDDING]}
            write(tmp_path / "theta_0", content | head | copy)
    found = merged(tmp_path, "--rule", "dare")
    assert found["cls.predictions.decoder.weight"].tobytes() == found[EMBEDDING].tobytes()
    assert not np.array_equal(found[EMBEDDING], content[EMBEDDING])
    for name, tensor in head.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_copied_bias_is_reported_as_a_copy(tmp_path, capsys):
    bias = np.ones(50, np.float32)
    write(tmp_path / "theta_0", {"cls.predictions.bias": bias})
    copied = {f"cls.predictions.{name}": bias + 1 for name in ("bias", "decoder.bias")}
    write(tmp_path / "theta_1", copied)
    sources = ["--pretrained", tmp_path / "theta_0", "--finetuned", tmp_path / "theta_1"]
    assert merge(*sources, "--output", tmp_path / "out") == 0
    said = "is left out: it is a copy of cls.predictions.bias, to which theta_0 ties it"
    assert said in capsys.readouterr().err


def test_shared_embeddings_of_an_encoder_and_a_decoder(tmp_path):
    names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD]
    for i in range(3):
        table = np.random.default_rng(i).normal(size=(20, 4)).astype(np.float32)
        write(tmp_path / f"theta_{i}", dict.fromkeys(names if i != 2 else names[:1], table))
    found = merged(tmp_path, "--rule", "dare")
    assert len({found[name].tobytes() for name in names}) == 1
