"""What is started and ended again: imports and `--help`, ours and others'."""

import sys
from dataclasses import dataclass
from pathlib import Path

IMPORT_GOAL, HELP_GOAL, QUICKSTART_GOAL = 1.5, 1.0, 60.0
"""Seconds within which our own must be done."""


@dataclass(frozen=True)
class Start:
    """One command, run from its start until it is gone."""

    name: str
    command: tuple[str, ...]
    goal: float | None = None
    """Seconds."""
    needs: str | None = None
    """The peers' module without which it is absent, None for ours."""


LAUNCHERS = (
    "run", "run quickstart", "evaluate", "analyse", "report", "watch", "table", "grid", "prepare",
    "export", "pretrain_tiny_clip",
)  # fmt: skip


COMMANDS = {"mergekit-pytorch": "mergekit", "fusion_bench": "fusion_bench"}
"""Of the peers, beside their python, each with the module that it belongs to."""


def starts(peers: Path) -> list[Start]:
    """All of them.

    Args:
      peers: the python in whose environment the peers are installed.
    """
    return [
        _program("limit: python, nothing else", "pass"),
        _program("limit: import numpy", "import numpy"),
        _program("limit: import jax", "import jax"),
        _program("limit: import flax.nnx", "import flax.nnx"),
        _program("ours: import magmax_jax", "import magmax_jax", IMPORT_GOAL),
        _program("ours: magmax_jax.merge", "from magmax_jax import merge", IMPORT_GOAL),
        _program("ours: magmax_jax.CLIP", "from magmax_jax import CLIP", IMPORT_GOAL),
        _program("ours: everything public", "from magmax_jax import *", IMPORT_GOAL),
        _program("ours: what a run imports", "import experiments.run, magmax_jax.runs.train"),
        *(
            _help(f"ours: magmax {words}--help", "magmax_jax", *words.split())
            for words in ("", "merge ", "inspect ")
        ),
        *(
            _help(f"ours: experiments.{name} --help", f"experiments.{module}", *words)
            for name, (module, *words) in ((name, name.split()) for name in LAUNCHERS)
        ),
        *(
            Start(f"peer: {name}", (str(peers), "-c", name), needs=module)
            for name, module in {
                "import torch": "torch",
                "from transformers import CLIPModel": "transformers",
                "import mergekit.merge": "mergekit",
                "from fusion_bench.method import MagMaxAlgorithm": "fusion_bench",
            }.items()
        ),
        *(
            Start(f"peer: {name} --help", (str(peers.parent / name), "--help"), needs=module)
            for name, module in COMMANDS.items()
        ),
    ]  # fmt: skip


def _program(name: str, text: str, goal: float | None = None) -> Start:
    return Start(name, (sys.executable, "-c", text), goal)


def _help(name: str, *words: str) -> Start:
    return Start(name, (sys.executable, "-m", *words, "--help"), HELP_GOAL)
