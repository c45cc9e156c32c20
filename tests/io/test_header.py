"""Truncated or wrong headers: one sentence that says what, where and what to do."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.header import read_header


@pytest.fixture
def path(tmp_path):
    """A file with one tensor of each relevant kind: ordinary, scalar and empty."""
    path = tmp_path / "model.safetensors"
    content = {"a": np.ones((7, 3), np.float32), "b": np.int8(1), "empty": np.ones((0, 4))}
    save_file({name: np.asarray(value) for name, value in content.items()}, path, {"format": "pt"})
    return path


def refusal(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_header(path)
    message = str(raised.value)
    assert str(path) in message and "\n" not in message
    assert path.read_bytes() == content
    return message


def file_bytes(header: str | bytes, data: bytes) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return len(text).to_bytes(8, "little") + text + data


def entry(*shape: int, at: int = 0, dtype: str = "U8") -> dict:
    end = at + int(np.prod(shape))
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}


def test_a_header_lists_every_tensor_in_data_order(path):
    metadata, tensors = read_header(path)
    assert metadata == {"format": "pt"}
    assert {name: (str(t.dtype), t.shape) for name, t in tensors.items()} == {
        "empty": ("float64", (0, 4)),
        "a": ("float32", (7, 3)),
        "b": ("int8", ()),
    }
    assert [t.offset for t in tensors.values()] == sorted(t.offset for t in tensors.values())


def test_truncated_files(path):
    whole = path.read_bytes()
    for content, words in [
        (whole[:-1], f"it has {len(whole) - 1} bytes, its header describes {len(whole)}: 1 are"),
        (whole + b"\0", "its header describes"),
        (whole[:5], "not a complete safetensors file"),
        (b"", "is empty, so it is not a complete safetensors file"),
        (b"<html>404</html>" * 9, "is an HTML page"),
        ((1 << 62).to_bytes(8, "little") + whole[8:], "cut off within its header"),
        (whole.replace(b"[7,3]", b"[8,3]"), "84 bytes for F32 [8, 3]"),
        (whole.replace(b'"F32"', b'"X32"'), "unknown dtype X32"),
    ]:
        message = refusal(path, content)
        assert words in message and message.endswith("fetch it again")


def test_a_duplicate_tensor_name(path):
    one, other = json.dumps(entry(4)), json.dumps(entry(4, at=4))
    message = refusal(path, file_bytes(f'{{"a": {one}, "b": {other}, "a": {other}}}', bytes(8)))
    assert message == f"{path} names a twice: save the model again"
    twice = '{"a": {"dtype": "U8", "dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}'
    assert "names dtype twice" in refusal(path, file_bytes(twice, bytes(4)))


@pytest.mark.parametrize(
    ("tensors", "pairs"),
    [
        ({"head": entry(4), "embedding": entry(4), "x": entry(2, at=4)}, ["head and embedding"]),
        ({"a": entry(4), "b": entry(4, at=2)}, ["a and b"]),
        ({"a": entry(6), "b": entry(2, at=2)}, ["a and b"]),
        ({"a": entry(2), "b": entry(2), "c": entry(4, at=2), "d": entry(4, at=2)},
         ["a and b", "c and d"]),
    ],
)  # fmt: skip
def test_tied_tensors(tensors, pairs, path):
    message = refusal(path, file_bytes(json.dumps(tensors), bytes(6)))
    assert message.startswith(f"{path}: {', '.join(pairs)} share bytes")
    assert "save the model again with transformers' save_pretrained" in message


def test_a_hole_between_tensors(path):
    header = json.dumps({"a": entry(4), "b": entry(4, at=6)})
    assert "puts b in the wrong place" in refusal(path, file_bytes(header, bytes(10)))


@pytest.mark.parametrize("header", ["[]", "3", '{"a": 3}', '{"a": {}}', '{"a": [', "{}x"])
def test_a_header_of_something_else(header, path):
    assert "not a complete safetensors file" in refusal(path, file_bytes(header, b""))


def named(name: str) -> str:
    return '{"' + name + '": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'


@pytest.mark.parametrize(
    "header",
    [
        named("\ud800").encode("utf-8", "surrogatepass"),
        named(r"\ud800").encode(),
        b'{"__metadata__": {"a": "\xed\xa0\x80"}}',
        rb'{"__metadata__": {"a": "\udc00"}}',
        named("é").encode("latin-1"),
        named("w").encode("utf-8-sig"),
        *(named("w").encode(f"utf-{bits}-{end}") for bits in (16, 32) for end in ("le", "be")),
    ],
)
def test_text_that_is_not_unicode_in_utf_8(header, path):
    """Python's JSON parser takes all but one of them; safetensors refuses all."""
    content = file_bytes(header, b"\0" if b"metadata" not in header else b"")
    with pytest.raises(SafetensorError):
        load(content)
    assert "is not a complete safetensors file" in refusal(path, content)


def test_names_may_be_escaped(path):
    path.write_bytes(file_bytes(named(r"\ud83d\ude00 \u00e9"), b"\0"))
    assert list(read_header(path)[1]) == [*load(path.read_bytes())] == ["😀 é"]


@pytest.mark.parametrize("number", ["-0.0", "0.0", "false", "1e0"])
@pytest.mark.parametrize(
    "place", ['"shape": [4], "data_offsets": [%s, 4]', '"shape": [%s, 0], "data_offsets": [0, 0]']
)
def test_numbers_that_are_not_written_as_integers(number, place, path):
    """Python's would compare as equal, but safetensors refuses them."""
    header = '{"a": {"dtype": "U8", ' + place % number + "}}"
    assert f"({json.loads(number)} is not an integer)" in refusal(
        path, file_bytes(header, bytes(4))
    )
