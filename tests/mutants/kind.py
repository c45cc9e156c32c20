"""What the registry of mutants knows of one kind of file that the product reads."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants import mutate

Mutate = Callable[[bytes, random.Random], bytes]


class Kind(NamedTuple):
    """One kind of file.

    Attributes:
      files: pattern of the corrupted files' paths in the folder; each mutant corrupts one of them.
      make: writes the valid folder.
      read: a folder -> the product's result, as from a user's command.
      mutate: corrupts a file.
      agrees: (folder, result) -> whether an accepted folder means that result; None if every
        accepted file is a valid document with its own meaning.
      room: memory in bytes that any file of this kind may take.
      cost: how many times fewer mutants are tried, because each takes longer.
      native: whether another library reads the files in native threads, which damage may crash;
        only `python -m tests.mutants`, which starts processes for them, tries these.
    """

    files: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    mutate: Mutate
    agrees: Callable[[Path, Any], bool] | None = None
    room: int = 0
    cost: int = 1
    native: bool = False


def in_json(data: bytes, draw: random.Random) -> bytes:
    """Mostly changes the document, sometimes its bytes."""
    if draw.random() < 0.2:
        return mutate.of_bytes(data, draw)
    return mutate.of_json(data.decode(), draw).encode("utf-8", "surrogatepass")


def in_lines(data: bytes, draw: random.Random) -> bytes:
    """Changes one of several lines, each a JSON document."""
    lines = data.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    lines[at] = in_json(lines[at], draw) + b"\n"
    return b"".join(lines)


def in_safetensors(data: bytes, draw: random.Random) -> bytes:
    """Changes the header, the tensors that it describes, or bytes of the whole file."""
    how = draw.choices((mutate.of_header, mutate.of_layout, mutate.of_bytes), (5, 3, 2))
    return how[0](data, draw)


def in_text_or_bytes(data: bytes, draw: random.Random) -> bytes:
    """Changes a JSON document where the file is one, otherwise bytes."""
    try:
        json.loads(data)
    except ValueError:
        return mutate.of_bytes(data, draw)
    return in_json(data, draw)


def written(file: str, content: Any) -> Callable[[Path], None]:
    """A `Kind.make` that writes one JSON file."""
    return lambda folder: (folder / file).write_text(json.dumps(content)) and None
