"""Commands that write, each with the folder that it starts from."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file


class Written(NamedTuple):
    """A command.

    Attributes:
      make: writes what it reads into an empty folder.
      argv: its words, with paths from that folder.
    """

    make: Callable[[Path], None]
    argv: tuple[str, ...]


def _model(folder: Path, value: float) -> None:
    folder.mkdir()
    weights = {f"layers.{i}.w": np.full((4, 6), value + i, np.float32) for i in range(3)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def _models(folder: Path) -> None:
    for name, value in (("base", 0.0), ("one", 0.5), ("two", -2.0)):
        _model(folder / name, value)


_MERGE = ("merge", "--pretrained", "base", "--finetuned", "one", "two", "--quiet")
COMMANDS = {
    "merge": Written(_models, (*_MERGE, "--output", "out")),
    "merge to a file": Written(_models, (*_MERGE, "--output", "out.safetensors")),
    "merge with a state": Written(
        _models, (*_MERGE, "--output", "out", "--state", "state.safetensors")
    ),
    "merge with ties": Written(_models, (*_MERGE, "--rule", "ties", "--output", "out")),
}
