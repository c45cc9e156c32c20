"""JSON objects in files: shard indices, and the configurations beside weights."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.io.file_kinds import describe_pointer


def parse(text: str, where: Path) -> Any:
    """Like `json.loads`, but refuses duplicate names in an object, which it would silently drop.

    Raises:
      UserError: a name is duplicated; `where` is the file in the message.
      ValueError: the text is not JSON, or nested too deeply.
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
    """The object in a JSON file; None if there is no file.

    Raises:
      UserError: the file cannot be read, is a dangling link, holds something else, or has duplicate
        names.
    """
    try:
        content = parse(path.read_text(), path)
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which does not exist: restore it"
            ) from None
        return None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and (pointer := describe_pointer(path.read_bytes())):
            raise UserError(f"{path} {pointer}") from None
        raise UserError(f"{path} is not readable JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: fetch it again")
    return content
