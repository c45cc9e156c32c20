"""Directories without weights: the error says where the weights are."""

import json

import pytest

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.safetensors.reader import open_tensors
from tests.io.test_reader import index, refusal, values, write


@pytest.fixture
def place(tmp_path):
    def make(*files: str):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        return tmp_path

    return make


def test_checkpoints_one_level_down(place):
    pipeline = place(
        "model_index.json",
        "training_args.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors.index.json",
        "scheduler/scheduler_config.json",
    )
    assert refusal(pipeline) == (
        f"{pipeline}: contains no weights itself; its checkpoints are in text_encoder, unet, vae: "
        f"name one of them, such as {pipeline / 'text_encoder'}"
    )


def test_many_checkpoints_of_one_training(place):
    directory = place(*(f"checkpoint-{i}/model.safetensors" for i in range(1, 10)))
    assert "checkpoint-5 and 4 more: name one" in refusal(directory)


def test_the_hubs_cache_has_revisions_below(place):
    repository = place("refs/main", "snapshots/abc/model.safetensors")
    assert f"name one of them, such as {repository}/snapshots/abc" in refusal(repository)


def test_parts_next_to_a_pickled_model_are_not_the_model(place):
    directory = place("pytorch_model.bin", "2_Dense/model.safetensors")
    assert "pytorch_model.bin is a pickle" in refusal(directory)


def test_a_repository_on_the_hub():
    files = {"README.md", "unet/diffusion_pytorch_model.safetensors"}
    words = "its checkpoints are in unet: `hf download acme/pipeline` and name one of them"
    assert words in hub.no_weights("acme/pipeline", files)
    message = hub.no_weights("acme/llama-GGUF", {"README.md", "llama.Q4_K_M.gguf"})
    assert message.startswith("acme/llama-GGUF/llama.Q4_K_M.gguf is a GGUF file, llama.cpp's")


def test_gguf_files(place):
    directory = place("model-q4_k_m.gguf", "config.json")
    for source in (directory, directory / "model-q4_k_m.gguf"):
        message = refusal(source)
        assert message.startswith(f"{directory / 'model-q4_k_m.gguf'} is a GGUF file")
        assert message.endswith("fetch the safetensors edition of this model")


def test_an_unfinished_download(place):
    directory = place("config.json", "model.safetensors.incomplete")
    message = refusal(directory)
    assert message.startswith(
        f"{directory / 'model.safetensors.incomplete'} is an unfinished download"
    )


def test_shards_without_their_index(place, tmp_path):
    place("model-00001-of-00003.safetensors")
    assert refusal(tmp_path) == (
        f"{tmp_path} holds 1 of the 3 shards of model but no index of them: "
        "fetch model.safetensors.index.json and shards 2, 3 into it"
    )
    place("model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors")
    assert "holds all 3 shards of model but no index of them: fetch model." in refusal(tmp_path)
    # A single file numbered 1 of 1 is complete.
    whole = write(tmp_path / "whole", "model-00001-of-00001.safetensors", a=1)
    assert values(whole) == {"a": 1}


def test_lists_of_names_are_short(place, tmp_path):
    shards = {f"a{i}": f"{i:02}" for i in range(60)}
    index(tmp_path, **shards)
    message = refusal(tmp_path)
    assert "not exist: 00, 01, 02, 03, 04 and 55 more: fetch them" in message


def test_an_index_can_be_named(tmp_path):
    """For directories with several, as for variants."""
    write(tmp_path, "1", a=1)
    write(tmp_path, "2", a=2)
    index(tmp_path, a="1")
    other = tmp_path / "model.fp16.safetensors.index.json"
    other.write_text(json.dumps({"weight_map": {"a": "2"}}))
    assert values(tmp_path) == {"a": 1}
    assert values(other) == {"a": 2}
    other.write_text("{}")
    with pytest.raises(UserError, match="has no weight_map"):
        open_tensors(other)
