"""Corrupts files as truncated downloads, other tools or attackers would."""

import copy
import json
import math
import random
import re
import struct
from collections.abc import Iterator
from typing import Any

ODD = (
    None, True, False, -1, 0, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, 1e308, -0.0,
    float("nan"), float("inf"), float("-inf"), "", "a", "0", "-1", "\0", "../x", "/etc/hostname",
    "caf\u00e9", "\ud800", "\x1b]0;x\x07", "x" * 5_000, [], {}, [[]], [None], {"a": None},
    [0, 0], [-1, 5], [2**40, 2**40], "F32", "I64", "BF16", "{{ 7 * 7 }}", "__class__",
)  # fmt: skip
"""Values of a wrong kind, range or size."""
DEEP = 3_000


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """Changes one or a few bytes anywhere."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(changed) or 1)
        length = draw.choice((1, 2, 8, 64, len(changed) // 3 + 1))
        kind = draw.randrange(7)
        if kind == 0 and changed:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and changed:
            changed[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at:at] = draw.randbytes(length)
        elif kind == 5:
            del changed[at:]
        else:
            _replace_number(changed, draw)
    return bytes(changed)


def of_json(text: str, draw: random.Random) -> str:
    """A document with nearly the same grammar but other content."""
    value = json.loads(text)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        value = _changed(value, draw)
    written = json.dumps(value, ensure_ascii=draw.random() < 0.5, default=str)
    kind = draw.randrange(12)
    if kind == 0:  # a duplicate name
        return re.sub(r'("[^"]+": )', r"\g<1>null, \g<1>", written, count=1)
    if kind == 1:  # too deep for parsers
        return written[:-1] + ', "deep": ' + "[" * DEEP + "]" * DEEP + "}"
    if kind == 2:
        return written[: draw.randrange(len(written) + 1)]
    return written


def of_header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with a changed header, possibly including its length field."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    text = of_json(header.decode(), draw).encode("utf-8", "surrogatepass")
    given = draw.choice((len(text),) * 12 + (len(text) + 1, 0, 7, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", given) + text + rest


def of_layout(data: bytes, draw: random.Random) -> bytes:
    """A valid safetensors file whose tensors have other numbers, shapes, dtypes or names."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    one = header[draw.choice(names)]
    kind = draw.randrange(4)
    if kind == 0 and rest:
        rest[draw.randrange(len(rest))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        size = math.prod(one["shape"])
        one["shape"] = draw.choice((one["shape"][::-1], [size], [1, size], [size, 1], [1] * 9))
        one["shape"] = [*one["shape"], *([] if math.prod(one["shape"]) == size else [size])]
    elif kind == 2:
        alike = next(group for group in _ALIKE if one["dtype"] in group)
        one["dtype"] = draw.choice(alike)
    else:
        first, second = draw.choice(names), draw.choice(names)
        header[first], header[second] = header[second], header[first]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(rest)


_ALIKE = (
    ("F64", "I64", "U64", "C64"), ("F32", "I32", "U32"), ("F16", "BF16", "I16", "U16"),
    ("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"),
)  # fmt: skip
"""Dtypes of the same size."""


def _replace_number(changed: bytearray, draw: random.Random) -> None:
    found = list(re.finditer(rb"\d+", bytes(changed)))
    if found:
        one = draw.choice(found)
        changed[slice(*one.span())] = draw.choice((b"0", b"-1", b"99999999999999999999", b"1e999"))


def _changed(value: Any, draw: random.Random) -> Any:
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return draw.choice(ODD)
    inside, key = draw.choice(places)
    kind = draw.randrange(6)
    if kind == 0:
        del inside[key]
    elif kind == 1:
        other, position = draw.choice(places)
        if position in other if isinstance(other, dict) else position < len(other):
            inside[key] = copy.deepcopy(other[position])
    elif kind == 2 and isinstance(inside, dict):
        inside[draw.choice(("", "x", f"{key}2", "__metadata__", key.upper()))] = inside.pop(key)
    elif kind == 3 and isinstance(inside[key], int | float):
        inside[key] = draw.choice((-1, 1, 2, 1_000)) * inside[key] + draw.choice((0, 1, -1))
    else:
        inside[key] = copy.deepcopy(draw.choice(ODD))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value's place in a document, as (container, key)."""
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield value, index
            yield from _places(each)
