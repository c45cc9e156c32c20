"""Who trains, each in a process of its own: ours, and transformers' image tower in several ways."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import SIZES
from benchmarks.turns import Contestant, Facts, environment
from magmax_jax.models import CLIPConfig

PEER = "benchmarks.peers.train_torch"
ALONE = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
"""For who has the accelerator for itself: about all of its memory, and no gaps in it."""


@dataclass(frozen=True)
class Work:
    """What all of them do.

    Attributes:
      size: a name in SIZES.
      dtype: of the computation: "float32" or "bfloat16".
      steps: in one call.
      platform: JAX's name of what computes: "cpu", "gpu" or "tpu".
    """

    size: str
    dtype: str
    steps: int
    platform: str


@dataclass(frozen=True)
class Trainer:
    """One way of training.

    Attributes:
      command: without its settings.
      settings: all but the batch size.
      variables: of its environment.
      peer: whether it needs the peers' environment.
    """

    name: str
    command: tuple[str, ...]
    settings: Facts
    variables: dict[str, str]
    peer: bool

    def contestant(self, batch_size: int, caches: Path, alone: bool = False) -> Contestant:
        """Ready to take part, at a batch of `batch_size` images.

        Args:
          caches: a directory; each gets a new one in it, so that no one's compilation is found
            there by another.
          alone: whether it has the accelerator for itself.
        """
        new = next(p for i in itertools.count() if not (p := caches / str(i)).exists())
        new.mkdir()
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(new)} | (ALONE if alone else {})
        return Contestant(
            self.name,
            self.command,
            self.settings | {"batch_size": batch_size},
            environment(**variables, **self.variables),
        )


def trainers(work: Work, peers: Path, compile_modes: Sequence[str]) -> list[Trainer]:
    """All of them; on a CPU, where page faults are a part of a step, with huge pages too.

    Args:
      peers: the python of their environment.
      compile_modes: torch.compile's.
    """
    # JAX rounds factors of float32 products to TF32 on a GPU; torch does if asked.
    way = {
        "autocast": work.dtype == "bfloat16",
        "tf32": work.platform == "gpu" and work.dtype == "float32",
    }
    compiled = {
        "torch, compiled" + f", {mode}" * (mode != "default"): way | {"compiled": mode}
        for mode in compile_modes
    }
    found = [_ours(work)]
    found += [_torch(work, peers, name, w) for name, w in compiled.items()]
    found += [_torch(work, peers, "torch, eager", way)]
    if work.platform == "cpu":
        huge = {"THP_MEM_ALLOC_ENABLE": "1"}
        found += [_ours(work, ", huge pages", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})]
        found += [
            _torch(work, peers, f"{name}, huge pages", w, huge)
            for name, w in (compiled | {"torch, eager": way}).items()
        ]
    return [*found, _torch(work, peers, "official recipe", {"fused": False})]


def _ours(work: Work, name: str = "", variables: dict[str, str] | None = None) -> Trainer:
    settings = {"size": work.size, "dtype": work.dtype, "steps": work.steps}
    command = (sys.executable, "-m", "benchmarks.steps")
    return Trainer(f"ours{name}", command, settings, variables or {}, peer=False)


def _torch(
    work: Work, python: Path, name: str, way: Facts, variables: dict[str, str] | None = None
) -> Trainer:
    settings = {
        "config": tower_config(SIZES[work.size].model),
        "steps": work.steps,
        "device": torch_device(work.platform),
        "way": way,
    }
    return Trainer(name, (str(python), "-m", PEER), settings, variables or {}, peer=True)


def torch_device(platform: str) -> str:
    """torch's name of what JAX calls `platform`; that of AMD's GPUs is cuda too."""
    return {"gpu": "cuda"}.get(platform, platform)


def tower_config(config: CLIPConfig) -> dict[str, Any]:
    """An image tower as the fields of transformers' `CLIPVisionConfig`."""
    # Not `to_hf`, which imports transformers and with it torch.
    vision = config.vision
    return {
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "projection_dim": config.projection,
        "hidden_act": vision.activation,
        "layer_norm_eps": vision.epsilon,
    }
