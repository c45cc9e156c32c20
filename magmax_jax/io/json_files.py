"""JSON objects in files: indices of shards, and the configurations that lie beside weights."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.io.file_kinds import describe_pointer


def parse(text: str | bytes, where: Path) -> Any:
    """What `json.loads` finds, but no name twice in one object: it would keep the last silently.

    Raises:
      UserError: a name stands twice; `where` is the file in the message.
      ValueError: the text is no JSON, or nested too deeply.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = ", ".join(name for name, count in counts.items() if count > 1)
            raise UserError(f"{where} names {twice} twice: save the model again")
        return found

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where there is no file.

    Raises:
      UserError: the file cannot be read, is a link that leads nowhere, holds something else, or
        names something twice.
    """
    try:
        content = parse(path.read_text(), path)
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which is not there: bring that back"
            ) from None
        return None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and (pointer := describe_pointer(path.read_bytes())):
            raise UserError(f"{path} {pointer}") from None
        raise UserError(f"{path} is not readable JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: fetch it again")
    return content
