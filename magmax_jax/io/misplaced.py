"""For places without weights we can read: finds where the weights are, or in what format."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from magmax_jax import errors

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_ENDS = (".safetensors", ".safetensors.index.json")
_UNFINISHED = tuple(
    f".safetensors{end}" for end in (".incomplete", ".part", ".crdownload", ".download", ".aria2")
)
_MODEL_FILES = ("pytorch_model", "flax_model", "tf_model")
"""Prefixes of file names of a whole model in another format: subfolders are then parts of it."""


def one_level_down(directory: Path) -> set[str]:
    """Files in the subfolders, as paths from `directory`; unreadable subfolders are skipped."""
    found = set()
    for folder in directory.iterdir():
        try:
            # In the hub's cache, a repository's revisions are one level further down.
            deeper = folder.glob("*/*" if folder.name == "snapshots" else "*")
            found |= {str(path.relative_to(directory)) for path in deeper}
        except OSError:
            continue
    return found


def why_no_weights(where: str | Path, files: set[str]) -> str | None:
    """The message for a place whose weights are elsewhere or are GGUF; None if neither applies.

    Args:
      files: paths from `where`, including those in subfolders.
    """
    if not any(name.startswith(_MODEL_FILES) for name in files):
        below = {name.rpartition("/")[0] for name in files if "/" in name and name.endswith(_ENDS)}
        if below:
            local = Path(where).expanduser().is_dir()
            way = "name one of them" if local else f"`hf download {where}` and name one of them"
            return (
                f"{where}: contains no weights itself; its checkpoints are in {some(below)}: {way}"
                + (f", such as {Path(where) / min(below)}" if local else "")
            )
    unfinished = sorted(name for name in files if name.endswith(_UNFINISHED))
    if unfinished:
        return (
            f"{Path(where) / unfinished[0]} is an unfinished download, and there are no other "
            "weights: let it finish or start it again"
        )
    gguf = sorted(name for name in files if name.lower().endswith(".gguf"))
    if gguf:
        return (
            f"{Path(where) / gguf[0]} is a GGUF file, llama.cpp's format: fetch the safetensors "
            "edition of this model"
        )
    return None


def shards_without_index(directory: Path, names: Iterable[str]) -> str | None:
    """The message for a directory that holds shards without their index; else None."""
    sets: dict[tuple[str, int], set[int]] = defaultdict(set)
    for name in names:
        if match := _SHARD.fullmatch(name):
            sets[match[1], int(match[3])].add(int(match[2]))
    for (stem, count), numbers in sorted(sets.items()):
        if count > 1:
            lost = sorted({*range(1, count + 1)} - numbers)
            held = "all" if not lost else f"{len(numbers)} of the"
            more = f" and shards {some(map(str, lost))}" if lost else ""
            return (
                f"{directory} holds {held} {count} shards of {stem} but no index of them: fetch "
                f"{stem}.safetensors.index.json{more} into it"
            )
    return None


def some(names: Iterable[str]) -> str:
    """The first few names in order, and the number of the rest."""
    return errors.some(sorted(names), shown=5)
