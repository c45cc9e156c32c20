"""An index may only name files in its own directory."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.io.inside import inside
from magmax_jax.io.safetensors.reader import open_tensors

INDEX = "model.safetensors.index.json"


def model(directory: Path, name: str) -> Path:
    """A directory whose index names one shard."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    return directory


@pytest.fixture
def other(tmp_path):
    """A shard that is not the model's."""
    (tmp_path / "other").mkdir()
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "other" / "x.safetensors")
    return tmp_path / "other" / "x.safetensors"


@pytest.mark.parametrize(
    "name",
    ["../other/x.safetensors", "deep/../../other/x.safetensors", "..\\other\\x.safetensors",
     "C:x.safetensors", "", "x\0.safetensors", "\ud800.safetensors", "x" * 300],
)  # fmt: skip
def test_names_outside_the_directory_are_refused(tmp_path, other, name):
    with pytest.raises(UserError, match="which is not a file in its directory"):
        open_tensors(model(tmp_path / "model", name))


def test_absolute_names_are_refused_even_inside_the_directory(tmp_path, other):
    for path in (other, tmp_path / "model" / "x.safetensors"):
        with pytest.raises(UserError, match="which is not a file in its directory"):
            open_tensors(model(tmp_path / "model", str(path)))


def test_links_out_of_the_directory_are_refused(tmp_path, other):
    """Links of a file, and of a folder on its path."""
    directory = model(tmp_path / "model", "a.safetensors")
    (directory / "a.safetensors").symlink_to(other)
    (directory / "folder").symlink_to(other.parent)
    for name in ("a.safetensors", "folder/x.safetensors"):
        with pytest.raises(UserError, match=f"names {name}, which is a link out of .* to .*other"):
            open_tensors(model(directory, name))


def test_links_inside_the_directory_and_linked_directories_are_followed(tmp_path, other):
    directory = model(tmp_path / "model", "folder/a.safetensors")
    (directory / "folder").mkdir()
    (directory / "there.safetensors").write_bytes(other.read_bytes())
    (directory / "folder" / "a.safetensors").symlink_to(Path("..", "there.safetensors"))
    (tmp_path / "link").symlink_to(directory)
    for each in (directory, tmp_path / "link"):
        assert list(open_tensors(each).tensors) == ["a"]


@pytest.mark.parametrize("folder", ["", "text_encoder"])
def test_links_into_the_blobs_of_the_hubs_cache_are_followed(tmp_path, other, folder):
    repo = tmp_path / "models--some--model"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "1f2e").write_bytes(other.read_bytes())
    directory = model(repo / "snapshots" / "abc" / folder, "a.safetensors")
    (directory / "a.safetensors").symlink_to(repo / "blobs" / "1f2e")
    assert list(open_tensors(directory).tensors) == ["a"]
    assert inside(directory / INDEX, "a.safetensors") == directory / "a.safetensors"


def test_circular_links_are_refused(tmp_path):
    directory = model(tmp_path / "model", "a.safetensors")
    (directory / "a.safetensors").symlink_to("b.safetensors")
    (directory / "b.safetensors").symlink_to("a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors"):
        open_tensors(directory)
