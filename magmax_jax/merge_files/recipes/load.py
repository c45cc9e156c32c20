"""Reads a recipe's YAML, in which no key is given twice."""

from pathlib import Path
from typing import Any

import yaml

from magmax_jax.errors import UserError


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"{self.name}: the key {key!r} is given twice in one place")
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    """A recipe's fields and their values.

    Raises:
      UserError: it cannot be read, is not YAML or contains no fields, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        loader.name = str(path)
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except UserError:  # which is a ValueError
        raise
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{path} cannot be read ({why})") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or "it is nested too deeply or holds a broken value"
        raise UserError(f"{path}{where}: this is not YAML: {why}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{path} is not a recipe: it has no fields such as merge_method and models")
    return found
