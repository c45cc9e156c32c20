"""Which files of a model accompany its weights: configuration, tokenizer, code, licence.

Paths are relative to the model's directory, with forward slashes, so the same code handles
directories and the hub's listings.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from magmax_jax.io.inside import stays_in

WEIGHT_SUFFIXES = frozenset(
    ".safetensors .bin .msgpack .h5 .keras .pt .pth .ckpt .pkl .pickle .joblib .onnx .onnx_data "
    ".gguf .ggml .llamafile .pb .tflite .mlmodel .mlpackage .engine .pte .ot .nemo .npz".split()
)
SMALL = 64 << 20
"""Largest companion, or folder of companions, in bytes; large tokenizers take 35 MB."""
CARD = "README.md"
_INDEX = re.compile(r"\.index(\.\w+)?\.json$|\.onnx[._]data|\.data-\d+-of-\d+$|tfevents")
_ADAPTER = "adapter_"
_MODULE = re.compile(r"(\w+_)?\d+_\w+")


class Choice(NamedTuple):
    """What accompanies a model, and what is too large to be included."""

    names: list[str]
    too_large: dict[str, int]
    """Files and top-level folders, and their bytes."""


def is_weights(name: str) -> bool:
    """Whether a file holds weights in any format, or is an index of such files.

    >>> [is_weights(n) for n in ("a.GGUF", "model.safetensors.index.fp16.json", "spiece.model")]
    [True, True, False]
    """
    path = PurePosixPath(name)
    return path.suffix.lower() in WEIGHT_SUFFIXES or bool(_INDEX.search(path.name))


def is_module(name: str, names: Collection[str]) -> bool:
    """Whether a file belongs to an extra module of sentence-transformers, such as `2_Dense/...`."""
    folder, slash, _ = name.partition("/")
    return bool(slash) and "modules.json" in names and bool(_MODULE.fullmatch(folder))


def choose(sizes: Mapping[str, int]) -> Choice:
    """The companions among a model's files.

    Excluded: weights, except the safetensors of sentence-transformers' extra modules, without which
    the model does not load; folders that hold weights, which are other formats (`onnx/`) or other
    models (`checkpoint-500/`); hidden files; the model card; beside a whole model's weights, an
    adapter's configuration, because libraries would load the adapter instead.

    Args:
      sizes: of all files, in bytes.
    """
    whole = any(
        is_weights(name) and "/" not in name and not name.startswith(_ADAPTER) for name in sizes
    )
    left_out = {CARD, f"{_ADAPTER}config.json"} if whole else {CARD}
    entries: dict[str, list[str]] = {}
    for name in sorted(sizes):
        hidden = any(part[0] == "." or part == "__pycache__" for part in name.split("/"))
        if not hidden and name not in left_out:
            entries.setdefault(name.partition("/")[0], []).append(name)
    names: list[str] = []
    too_large: dict[str, int] = {}
    for entry, files in entries.items():
        if is_module(files[0], sizes):
            names += [n for n in files if n.endswith(".safetensors") or not is_weights(n)]
        elif not any(is_weights(name) for name in files):
            total = sum(sizes[name] for name in files)
            if total > SMALL:
                too_large[entry] = total
            else:
                names += files
    return Choice(names, too_large)


def file_sizes(directory: Path) -> dict[str, int]:
    """All files below a directory and their sizes; links to directories are not followed."""
    sizes = {}
    for folder, inside, files in os.walk(directory):
        inside[:] = [name for name in inside if name[0] != "."]
        for name in files:
            path = Path(folder, name)
            if path.is_file():  # not a dangling link or a pipe
                sizes[path.relative_to(directory).as_posix()] = path.stat().st_size
    return sizes


def files(directory: Path) -> dict[str, Path]:
    """A model's companions by name. Links out of its directory are excluded: a downloaded model
    could otherwise get any of the user's files copied and published."""
    paths = {name: directory / name for name in choose(file_sizes(directory)).names}
    return {name: path for name, path in paths.items() if stays_in(directory, path)}
