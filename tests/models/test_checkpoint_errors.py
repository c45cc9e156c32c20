"""Any checkpoint error: one sentence that says what, where and what to do."""

import builtins
import errno
import io
import json
import os
import pickle
import weakref

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors import writer
from magmax_jax.models import CLIP, conversion
from magmax_jax.models.clip import checkpoint
from tests.models.weights import CONFIGS, weights, write_checkpoint

CONFIG = CONFIGS["legacy"]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "model", CONFIG, weights(CONFIG))


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as raised:
        CLIP.from_pretrained(source, **options)
    return str(raised.value)


def assert_says(message: str, *words: object) -> None:
    for word in words:
        assert str(word) in message


def test_truncated_safetensors(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert_says(refusal(directory), path, "not a complete safetensors file", "fetch it again")


def test_corrupt_safetensors(directory):
    path = directory / "model.safetensors"
    path.write_bytes(b"<html>404</html>" * 9)
    assert_says(refusal(directory), path, "not a complete safetensors file", "fetch it again")


def shard(directory, names_there, names_promised):
    tensors = weights(CONFIG)
    (directory / "model.safetensors").unlink()
    save_file({n: tensors[n] for n in names_there}, directory / "model-1.safetensors")
    promised = dict.fromkeys(names_promised, "model-1.safetensors")
    (directory / INDEX).write_text(json.dumps({"weight_map": promised}))


def test_lost_shard(directory):
    shard(directory, weights(CONFIG), weights(CONFIG))
    (directory / "model-1.safetensors").unlink()
    assert_says(refusal(directory), directory / INDEX, "model-1.safetensors", "fetch them")


def test_index_promises_more_than_its_shards_hold(directory):
    names = list(weights(CONFIG))
    shard(directory, names[:-2], names)
    assert_says(refusal(directory), directory / INDEX, names[-1], names[-2], "fetch the index")


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_index_without_a_map(content, directory):
    (directory / "model.safetensors").unlink()
    (directory / INDEX).write_text(content)
    assert_says(refusal(directory), directory / INDEX, "fetch it again")


def test_truncated_msgpack(directory):
    (directory / "model.safetensors").unlink()
    (directory / "flax_model.msgpack").write_bytes(b"\x81\xa6params\xc7\xff")
    message = refusal(directory)
    assert_says(message, directory / "flax_model.msgpack", "fetch it again")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x07", "not a tree of tensors"),
        (b"\x81\x07\x07", "7 in it names no tensor"),
        (b"\x81\xa6kernel\xa1a", "'kernel' in it names no tensor"),
    ],
)
def test_msgpack_of_something_else(content, words, directory):
    (directory / "model.safetensors").unlink()
    (directory / "flax_model.msgpack").write_bytes(content)
    message = refusal(directory)
    assert_says(message, directory / "flax_model.msgpack", words, "fetch it again")


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_pickle_is_never_opened(directory, monkeypatch):
    path = directory / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Bomb()))
    pickle.loads(path.read_bytes())
    assert Bomb.exploded, "the bomb must work for this test to say anything"
    Bomb.exploded = False
    (directory / "model.safetensors").unlink()
    opened = []

    def spy(function):
        def call(file, *args, **kwargs):
            opened.append(str(file))
            return function(file, *args, **kwargs)

        return call

    for place in (builtins, io, os):
        monkeypatch.setattr(place, "open", spy(place.open))
    message = refusal(directory)
    assert not any(path.name in name for name in opened)
    path.read_bytes()
    assert str(path) in opened, "the spy must work for this test to say anything"
    assert_says(message, directory, path.name, "pickle", "model.safetensors", "flax_model.msgpack")
    assert not Bomb.exploded


def test_no_weights(directory):
    (directory / "model.safetensors").unlink()
    assert_says(refusal(directory), directory, "no weights", "model.safetensors")


def test_weights_file_instead_of_its_directory(directory):
    path = directory / "model.safetensors"
    assert_says(refusal(path), path, "is a file", "give the directory")


def test_no_such_directory(tmp_path):
    assert_says(refusal(tmp_path / "absent"), tmp_path / "absent", "no such directory", "give")


def test_no_configuration(directory):
    (directory / "config.json").unlink()
    assert_says(refusal(directory), directory, "config.json", "open_clip_config.json", "put")


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_configuration_is_not_a_json_object(content, directory):
    (directory / "config.json").write_text(content)
    assert_says(refusal(directory), directory / "config.json", "JSON", "fetch it again")


def change(directory, **changes):
    (directory / "config.json").write_text(json.dumps(CONFIG | changes))


def tower(name, **changes):
    return {f"{name}_config": CONFIG[f"{name}_config"] | changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "siglip"}, ["siglip", "choose a CLIP"]),
        ({"model_type": "clip_vision_model"}, ["clip_vision_model", "both towers"]),
        ({"architectures": ["CLIPForImageClassification"]}, ["classifier", "choose the CLIP from"]),
        ({"projection_dim": "wide"}, ["projection_dim"]),
        (tower("vision", hidden_size="x"), ["hidden_size"]),
        (tower("vision", num_attention_heads=7), ["24", "7"]),
        (tower("vision", hidden_act="snake"), ["hidden_act", "snake", "quick_gelu"]),
        (tower("vision", num_channels=1), ["num_channels", "which have 3"]),
        (tower("vision", image_size=[32, 32]), ["image_size", "[32, 32]", "one integer"]),
        (tower("text", attention_dropout=0.1), ["text_config.attention_dropout", "set it to 0"]),
        (tower("text", eos_token_id=[49, 48]), ["eos_token_id", "[49, 48]", "one integer"]),
    ],
    ids=lambda value: None if isinstance(value, list) else json.dumps(value)[-40:],
)
def test_configuration_asks_for_something_unsupported(changes, words, directory):
    change(directory, **changes)
    assert_says(refusal(directory), directory / "config.json", *words)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ({"embed_dim": 8, "vision_cfg": {"layers": [3, 4, 6, 3]}, "text_cfg": {}}, "ResNet"),
        (
            {"embed_dim": 8, "vision_cfg": {"timm_model_name": "x"}, "text_cfg": {}},
            "timm_model_name",
        ),
        (
            {"embed_dim": 8, "vision_cfg": {"layers": 2, "pool_type": "avg"}, "text_cfg": {}},
            "pool_type",
        ),
        (
            {"embed_dim": 8, "vision_cfg": {"layers": 2}, "text_cfg": {"no_causal_mask": True}},
            "no_causal",
        ),
        (
            {
                "embed_dim": 8,
                "vision_cfg": {"layers": 2},
                "text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}},
            },
            "tokenizer_kwargs",
        ),
        ({"embed_dim": 8, "vision_cfg": {"layers": 2}, "text_cfg": {}}, "width"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_openclip_configuration_of_another_architecture(model, word, directory):
    (directory / "config.json").unlink()
    path = directory / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": model}))
    assert_says(refusal(directory), path, word)


def test_every_difference_of_the_tensors_is_in_one_message(directory):
    tensors = weights(CONFIG)
    del tensors["text_model.final_layer_norm.bias"]
    tensors["adapter.weight"] = np.zeros(3, np.float32)
    tensors["visual_projection.weight"] = np.zeros((12, 23), np.float32)
    wrong = "vision_model.encoder.layers.1.mlp.fc1.bias"
    tensors[wrong] = np.zeros(40, np.int64)
    write_checkpoint(directory, CONFIG, tensors)
    assert_says(
        refusal(directory),
        directory,
        "4 differ",
        "config.json must come from one model",
        "missing text_model.final_layer_norm.bias (16,)",
        "unexpected adapter.weight",
        "visual_projection.weight has shape (12, 23), not (12, 24)",
        f"{wrong} is int64, not float32, float16, bfloat16",
    )


def test_another_depth_is_missing_and_unexpected_tensors(directory):
    change(directory, **tower("vision", num_hidden_layers=1), **tower("text", num_hidden_layers=3))
    message = refusal(directory)
    assert_says(message, "unexpected vision_model.encoder.layers.1.layer_norm1.bias", "32 differ")
    assert_says(message, "missing text_model.encoder.layers.2.self_attn.q_proj.weight (16, 16)")


def test_openclip_tensor_without_counterpart_keeps_its_name(directory):
    (directory / "model.safetensors").unlink()
    tensors = {"visual.conv1.weight": np.zeros((24, 3, 8, 8), np.float32)}
    tensors["visual.transformer.resblocks.0.ls_1.gamma"] = np.zeros(24, np.float32)
    save_file(tensors, directory / "open_clip_model.safetensors")
    assert_says(refusal(directory), "unexpected visual.transformer.resblocks.0.ls_1.gamma")


@pytest.mark.parametrize(("size", "better"), [(30, "24 or 32"), (4, "8 or 16")])
def test_image_size_is_not_a_multiple_of_the_patch(size, better, directory):
    assert_says(refusal(directory, image_size=size), size, "patch size of 8", f"use {better}")


def test_broken_tokenizer(directory):
    (directory / "tokenizer.json").write_text("{}")
    assert_says(refusal(directory), directory, "tokenizer cannot be read", "fetch its files again")


def saved(model, path, **options) -> str:
    with pytest.raises(UserError) as raised:
        model.save_pretrained(path, **options)
    return str(raised.value)


def test_save_refuses_a_directory_that_is_not_empty(directory, tmp_path):
    model = CLIP.from_pretrained(directory)
    before = (directory / "config.json").read_bytes()
    assert_says(saved(model, directory), directory, "already exists", "choose another directory")
    assert (directory / "config.json").read_bytes() == before
    file = tmp_path / "file"
    file.write_text("mine")
    assert_says(saved(model, file), file, "already exists")
    assert file.read_text() == "mine"
    assert_says(saved(model, file / "below"), file / "below", "cannot be written")
    assert_says(saved(model, tmp_path / "new", dtype="int8"), tmp_path / "new", "int8", "float16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "model"]
    (tmp_path / "empty").mkdir()
    model.save_pretrained(tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").exists()


@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite"])
def test_full_disk_leaves_nothing_behind(function, directory, tmp_path, monkeypatch):
    model = CLIP.from_pretrained(directory)
    before = os.listdir("/proc/self/fd")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer.os, function, full)
    message = saved(model, tmp_path / "new")
    assert_says(message, tmp_path / "new", "cannot be written", "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert os.listdir("/proc/self/fd") == before


def test_tensors_are_read_lazily(directory):
    tensors = checkpoint.read(directory).tensors
    changed = weights(CONFIG)
    changed["logit_scale"] = np.array(7, np.float32)
    save_file(changed, directory / "model.safetensors", metadata={"format": "pt"})
    assert tensors["logit_scale"]() == 7
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read \(No such file"):
        tensors["logit_scale"]()


def test_tensors_are_written_one_at_a_time(directory, tmp_path, monkeypatch):
    model, real, alive = CLIP.from_pretrained(directory), conversion.to_hf, []

    def watched(entries, state):
        for name, array in real(entries, state):
            alive.append(weakref.ref(array))
            # This tensor, the previous one until the next is requested, and their query and key.
            assert sum(ref() is not None for ref in alive) <= 4
            yield name, array

    monkeypatch.setattr(conversion, "to_hf", watched)
    model.save_pretrained(tmp_path / "new")
    assert len(alive) == len(weights(CONFIG))
