"""Tokenizers beside weights: finds where a model's tokens mean something else than theta_0's."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from magmax_jax.errors import some
from magmax_jax.io import companions
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.configurations import belonging, has_neighbours

_TOKENIZER = re.compile(
    r"tokenizer.*|vocab.*|merges\.txt|added_tokens\.json|special_tokens_map\.json|spiece\.model"
    r"|sentencepiece.*|tokenization_\w+\.py|tekken\.json|bpe\.codes|\w*\.tiktoken"
)
_TEMPLATE = re.compile(r"chat_template\.(jinja|json)|additional_chat_templates/.*")
_GENERATION = re.compile(r"generation_config\.json")
KINDS = {"tokenizer": _TOKENIZER, "chat template": _TEMPLATE, "generation config": _GENERATION}
"""What `--companions-from` takes from a model, with file names."""
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Fields of config.json that belong to the tokenizer."""
_PARSED = 4 << 20
"""Size of the largest JSON file compared by content rather than byte by byte."""
_OF_SAVING = {
    "transformers_version", "name_or_path", "_from_model_config", "tokenizer_file", "is_local",
    "local_files_only", "padding", "truncation",
}  # fmt: skip
"""Entries that record a file's origin and writer, or the settings of the last call."""
_VOCABULARIES = ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "tekken.json",
                 "sentencepiece.bpe.model", "merges.txt")  # fmt: skip


def files_of(directory: Path) -> dict[str, Path]:
    """A model's tokenizer, chat template and generation config: name -> file."""
    return {n: path for n, path in companions.files(directory).items() if is_of_text(n)}


def is_of_text(name: str) -> bool:
    """Whether `--companions-from` replaces this companion."""
    return any(pattern.fullmatch(name) for pattern in KINDS.values())


def notes(
    pretrained: TensorFiles, models: Sequence[TensorFiles], chosen: str | None
) -> Iterator[str]:
    """Differences between the models' companions and those of the output.

    Args:
      chosen: `--companions-from`.

    Raises:
      UserError: a config.json is not JSON.
      OSError: a file cannot be read.
    """
    if pretrained.loose:  # the output has no companions
        return
    ours = files_of(pretrained.directory)
    differing: dict[str, list[str]] = {}
    for model in models:
        theirs = files_of(model.directory) if has_neighbours(model) else {}
        other = _other_tokens(ours, theirs)
        if other:
            yield (
                f"{model.place}: {other}: rows of the embeddings that mean different tokens are "
                "merged, unless --exclude keeps theta_0's"
            )
        kinds = [kind for kind, p in KINDS.items() if _differs(ours, theirs, p)]
        kinds += ["ids of special tokens"] if _other_ids(pretrained, model) else []
        if kinds and chosen is None:
            differing.setdefault(", ".join(kinds), []).append(str(model.place))
    for what, places in differing.items():
        yield (
            f"{some(places, shown=1)}: not theta_0's {what}; the output gets theta_0's, or the "
            f"model's with --companions-from {places[0]}"
        )


def _differs(
    ours: Mapping[str, Path], theirs: Mapping[str, Path], pattern: re.Pattern[str]
) -> bool:
    """Whether a model has companions of a kind that differ from theta_0's."""
    found = {name: path for name, path in theirs.items() if pattern.fullmatch(name)}
    # A model need not have all of them: many are saved without a tokenizer.
    return any(name not in ours or not _equal(ours[name], path) for name, path in found.items())


def _other_ids(pretrained: TensorFiles, model: TensorFiles) -> bool:
    ours, theirs = belonging(pretrained), belonging(model)
    both = [name for name in TOKEN_IDS if name in ours and name in theirs]
    return any(ours[name] != theirs[name] for name in both)


def _equal(one: Path, other: Path) -> bool:
    """Whether two files have the same content; for JSON, whatever its layout and writer."""
    if _equal_bytes(one, other):
        return True
    if one.suffix != ".json" or max(p.stat().st_size for p in (one, other)) > _PARSED:
        return False
    return _content(one) == _content(other)


def _content(path: Path) -> Any:
    """A JSON file's content without its origin; None if it is not JSON."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        return {name: value for name, value in found.items() if name not in _OF_SAVING}
    return found


def _other_tokens(ours: Mapping[str, Path], theirs: Mapping[str, Path]) -> str:
    """How two vocabularies differ in ids that both have; empty if they do not."""
    fast = "tokenizer.json"
    if fast in ours and fast in theirs:
        if _equal_bytes(ours[fast], theirs[fast]):
            return ""
        one, other = (_vocabulary(_content(files[fast])) for files in (ours, theirs))
        moved = [i for i in one.keys() & other.keys() if one[i] != other[i]]
        if not moved:
            return ""
        first = min(moved)
        return (
            f"its tokenizer.json is a different one: {len(moved)} tokens differ: {first} is "
            f"{other[first]!r}, theta_0's {one[first]!r}"
        )
    for name in _VOCABULARIES:
        if name in ours and name in theirs and not _equal_bytes(ours[name], theirs[name]):
            return f"its tokenizer is a different one ({name} differs from theta_0's)"
    return ""


def _equal_bytes(one: Path, other: Path) -> bool:
    same = one.stat().st_size == other.stat().st_size
    return same and one.read_bytes() == other.read_bytes()


def _vocabulary(tokenizer: Any) -> dict[int, str]:
    """id -> token of a tokenizer.json, whose vocabulary is a table or, for unigrams, a list.

    Empty if the file has another layout.
    """
    try:
        vocabulary = tokenizer.get("model", {}).get("vocab", {})
        if isinstance(vocabulary, dict):
            found = {int(i): str(token) for token, i in vocabulary.items()}
        else:
            found = {i: str(token) for i, (token, *_) in enumerate(vocabulary)}
        return found | {int(t["id"]): str(t["content"]) for t in tokenizer.get("added_tokens", ())}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return {}
