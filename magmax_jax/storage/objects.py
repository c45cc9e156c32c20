"""JSON objects in files: indices of shards, and the configurations that lie beside weights."""

import json
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError


def read_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where there is no file.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: fetch it again")
    return content
