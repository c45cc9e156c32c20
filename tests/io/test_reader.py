"""Which files make up a checkpoint, errors for those that do not, and partial reads."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors import reader as reader_module
from magmax_jax.io.safetensors.reader import Reader, open_tensors

INDEX = "model.safetensors.index.json"


def write(directory, file: str, **tensors: int):
    """Tensors of three equal entries each; the value identifies the tensor."""
    directory.mkdir(exist_ok=True)
    save_file({name: np.full(3, value, np.int32) for name, value in tensors.items()},
              directory / file)  # fmt: skip
    return directory


def values(source) -> dict[str, int]:
    files = open_tensors(source)
    with Reader() as reader:
        return {name: int(reader.whole(tensor)[0]) for name, tensor in files.tensors.items()}


def refusal(source) -> str:
    with pytest.raises(UserError) as raised:
        open_tensors(source)
    return str(raised.value)


def index(directory, **where: str) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": where}))


def test_the_order_in_which_files_are_preferred(tmp_path):
    names = ["other.safetensors", "open_clip_model.safetensors", "shard", "model.safetensors"]
    for i, name in enumerate(names):
        write(tmp_path, name, a=min(i, 2))
        if name == "shard":
            index(tmp_path, a="shard")
        assert values(tmp_path) == {"a": min(i, 2)}
    assert [path.name for path in open_tensors(tmp_path).files] == ["model.safetensors"]
    assert values(tmp_path / names[0]) == {"a": 0}


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model", "other"])
def test_a_single_file_beside_the_shards_of_another_model(stem, tmp_path):
    """As transformers' save_pretrained leaves them; it would load the older, single file."""
    write(tmp_path, f"{stem}.safetensors", a=1, b=1)
    write(tmp_path, "1", a=1)
    write(tmp_path, "2", b=2)
    text = json.dumps({"weight_map": {"a": "1", "b": "2"}})
    (tmp_path / f"{stem}.safetensors.index.json").write_text(text)
    if stem == "other":  # no name that a library writes, so its index takes precedence
        assert values(tmp_path) == {"a": 1, "b": 2}
        return
    assert refusal(tmp_path) == (
        f"{tmp_path} holds two models: {stem}.safetensors and the shards of "
        f"{stem}.safetensors.index.json differ in b; saving in shards leaves an older single file "
        "in place: delete the old one"
    )
    assert values(tmp_path / f"{stem}.safetensors") == {"a": 1, "b": 1}
    write(tmp_path, f"{stem}.safetensors", c=1)
    assert "have no tensor in common" in refusal(tmp_path)
    (tmp_path / "2").unlink()  # as left by saving in a single file over shards
    assert values(tmp_path) == {"c": 1}


def test_several_files_without_an_index(tmp_path):
    for name in "bc":
        write(tmp_path, f"{name}.safetensors", a=0)
    assert "2 safetensors files but no index" in refusal(tmp_path)


def test_shards_are_one_checkpoint(tmp_path):
    write(tmp_path, "1", a=1, b=2)
    write(tmp_path, "2", c=3)
    index(tmp_path, a="1", b="1", c="2")
    assert values(tmp_path) == {"a": 1, "b": 2, "c": 3}
    (tmp_path / "2").unlink()
    message = refusal(tmp_path)
    assert "shards that do not exist: 2: fetch them" in message and str(tmp_path) in message
    write(tmp_path, "2", d=3)
    assert "its shards do not hold: c: fetch the index" in refusal(tmp_path)
    write(tmp_path, "2", c=3, b=2)
    assert "2 and 1 both hold b: fetch the index" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}']
)
def test_an_index_of_something_else(content, tmp_path):
    (tmp_path / INDEX).write_text(content)
    message = refusal(tmp_path)
    assert str(tmp_path / INDEX) in message and message.endswith("fetch it again")


def test_an_index_that_names_a_tensor_twice(tmp_path):
    for shard in "12":
        write(tmp_path, shard, a=1)
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "1", "b": "2", "a": "2"}}')
    assert refusal(tmp_path) == f"{tmp_path / INDEX} names a twice: save the model again"


def test_places_without_tensors_that_can_be_read_one_by_one(tmp_path):
    assert "contains no weights" in refusal(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"boom")
    assert "is a pickle" in refusal(tmp_path)
    assert "is a pickle" in refusal(tmp_path / "pytorch_model.bin")
    (tmp_path / "flax_model.msgpack").write_bytes(b"")
    message = refusal(tmp_path)
    assert "flax_model.msgpack cannot be read tensor by tensor" in message
    assert "model.safetensors" in message and str(tmp_path) in message
    assert "no such directory" in refusal(tmp_path / "none")


def test_pieces_of_tensors(tmp_path):
    save_file({"a": np.arange(12.0).reshape(3, 4), "b": np.float16(5)[None]}, tmp_path / "x")
    shutil.move(tmp_path / "x", tmp_path / "model.safetensors")
    tensors = open_tensors(tmp_path).tensors
    with Reader() as reader:
        piece = np.zeros(5)
        reader.into(piece, tensors["a"], 6)
        np.testing.assert_array_equal(piece, [6, 7, 8, 9, 10])
        assert reader.whole(tensors["b"]) == np.float16(5)
        np.testing.assert_array_equal(reader.whole(tensors["a"]), np.arange(12.0).reshape(3, 4))


def test_a_file_that_changes_while_it_is_read(tmp_path):
    write(tmp_path, "model.safetensors", a=1)
    (tensor,) = open_tensors(tmp_path).tensors.values()
    path = tensor.path
    path.write_bytes(path.read_bytes()[:-1])
    with Reader() as reader, pytest.raises(UserError, match="ended while it was read"):
        reader.whole(tensor)
    path.unlink()
    with Reader() as reader, pytest.raises(UserError, match=r"cannot be read \(No such file"):
        reader.whole(tensor)


def test_a_shard_that_is_a_dangling_link_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors"}}')
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"not exist: a\.safetensors \(a link to .*gone\)"):
        open_tensors(tmp_path)


def test_threads_that_start_together_open_a_file_once(tmp_path, monkeypatch):
    (tensor,) = open_tensors(write(tmp_path / "model", "model.safetensors", a=1)).tensors.values()
    opened, real = [], os.open

    def slow(path, *flags):
        opened.append(path)
        time.sleep(0.05)
        return real(path, *flags)

    with Reader() as reader, ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr(os, "open", slow)
        read = list(pool.map(lambda _: int(reader.whole(tensor)[0]), range(4)))
    assert read == [1] * 4
    assert opened == [tensor.path]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux does")
def test_of_many_files_only_some_are_open_at_once(tmp_path, monkeypatch):
    """Each is read as if it were the only one, also by several threads."""
    monkeypatch.setattr(reader_module, "MOST_OPEN", 4)
    tensors = []
    for i in range(20):
        save_file({"w": np.full(3, i, np.float32)}, tmp_path / f"{i}.safetensors")
        tensors.append(open_tensors(tmp_path / f"{i}.safetensors").tensors["w"])
    before = len(os.listdir("/proc/self/fd"))
    with Reader() as reader, ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            found = list(threads.map(reader.whole, tensors))
            np.testing.assert_array_equal(np.array(found)[:, 0], np.arange(20))
        assert len(os.listdir("/proc/self/fd")) <= before + 4 + 3
    assert len(os.listdir("/proc/self/fd")) <= before
