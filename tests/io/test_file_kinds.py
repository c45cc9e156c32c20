"""Files that are not what their name says: each kind has its own message and remedy."""

import gzip
import io
import json
import pickle
import zipfile

import pytest
from safetensors.numpy import save

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import open_tensors

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 598641023\n"
)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("archive/data.pkl", b"x" * 300)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "is a Git LFS pointer to 598,641,023 bytes, not the file itself: run `git lfs"),
        (POINTER.replace(b"git-lfs", b"hawser"), "is a Git LFS pointer"),
        (b"/annex/objects/MD5E-s5--a.safetensors\n", "run `git annex get`"),
        (b"GGUF\x03\0\0\0" + b"\0" * 600, "is a GGUF file, llama.cpp's format: fetch the safeten"),
        (b"\n<!DOCTYPE html>\n<title>Access denied</title>", "is an HTML page ('Access denied')"),
        (b"\xef\xbb\xbf<HTML><body>404", "is an HTML page as a refused download leaves it"),
        (b"", "is empty"),
        (archive(), "is a zip archive as torch.save writes it, so a pickle"),
        (pickle.dumps({"a": 1}, protocol=2), "older versions of torch.save write it, so a pickle"),
        (gzip.compress(save({}), mtime=0), "is a gzip archive: unpack it"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "is an HDF5 file"),
        (b"\x93NUMPY\x01\0" + b"\0" * 99, "is a NumPy array"),
        (b"\0" * 4096, "begins with zeros, as an unfinished download does: fetch it again"),
        (b"Entry not found", "holds text that begins with 'Entry not found', not weights"),
        (b'{"error": "Repository not found"}', 'holds text that begins with \'{"error": '),
        (save({})[:8], "cut off within its header, which takes"),
        (b"\x05\0\0\0\0\0\0\0\xff\xfe\0\0\0", "is not a complete safetensors file"),
        (b"\x80", "is not a complete safetensors file"),
    ],
)
def test_a_file_is_named_for_what_it_is(content, words, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for source in (path, tmp_path):
        with pytest.raises(UserError) as raised:
            open_tensors(source)
        message = str(raised.value)
        assert message.startswith(f"{path} ") and words in message and "\n" not in message


def test_a_configuration_that_is_a_pointer(tmp_path):
    (tmp_path / "config.json").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"config\.json is a Git LFS pointer .* `git lfs pull`"):
        read_object(tmp_path / "config.json")


@pytest.mark.parametrize("metadata", ["x", [], 3, {"a": {"b": "c"}}, {"a": None}])
def test_metadata_that_are_not_strings(metadata, tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"__metadata__ is not a .*: save the model again"):
        open_tensors(path)


def test_null_metadata(tmp_path):
    header = b'{"__metadata__": null}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert open_tensors(path).metadata == {}
