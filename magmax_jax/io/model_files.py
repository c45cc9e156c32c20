"""sha256s of a model's directory, part by part: equal ones mean the same model."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from magmax_jax.io import hub
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.io.sha256 import sha256_of

WEIGHTS = "weights"
COMPANIONS = {
    "tokenizer": (
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "spiece.model",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    "preprocessing": ("preprocessor_config.json", "processor_config.json"),
    "configuration": ("config.json", "open_clip_config.json"),
}
"""Part -> the files that determine it, in any model family."""
_PASSING = {"_name_or_path", "name_or_path", "transformers_version", "_commit_hash"}
"""Names in JSON files that say where a model came from, not what it computes."""
_VOCABULARIES = {"tokenizer.json", "vocab.json"}
"""JSON files that take a tenth of a second to parse and that no library rewrites."""

Digests = dict[str, dict[str, str]]
"""Part -> file -> sha256."""


def digests(directory: Path) -> Digests:
    """sha256s of the files that a model is read from.

    Weights and vocabularies are hashed byte by byte, other JSON files by their content, regardless
    of layout and of the transformers version that wrote them.

    Raises:
      UserError: a file cannot be read, or there are no weights.
    """
    msgpack = directory / hub.MSGPACK
    if msgpack.exists() and not any(directory.glob("*.safetensors*")):
        weights = [msgpack]
    else:
        weights = list(open_tensors(directory).files)
    found: Digests = {WEIGHTS: {path.name: sha256_of(path) for path in weights}}
    for part, names in COMPANIONS.items():
        there = [directory / name for name in names if (directory / name).exists()]
        found[part] = {path.name: _content(path) for path in there}
    return found


def changed_parts(
    recorded: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """The parts that differ, each with the files that differ.

    The same weights under different file names, as with shards, count as equal.
    """
    changed = {}
    for part in (WEIGHTS, *COMPANIONS):
        before, after = dict(recorded.get(part, {})), dict(now.get(part, {}))
        same = sorted(before.values()) == sorted(after.values()) if part == WEIGHTS else None
        if same or before == after:
            continue
        names = before.keys() | after.keys()
        changed[part] = sorted(name for name in names if before.get(name) != after.get(name))
    return changed


def _content(path: Path) -> str:
    if path.suffix != ".json" or path.name in _VOCABULARIES:
        return sha256_of(path)
    values = {
        name: value for name, value in (read_object(path) or {}).items() if name not in _PASSING
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
