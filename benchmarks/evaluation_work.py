"""What contenders evaluate, and who they are: images, labels and a head as files for all alike."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.checkpoints import make_checkpoints
from benchmarks.shapes import SIZES
from benchmarks.turns import Contestant, Facts
from magmax_jax.cli.presets import TINY_CLIP
from magmax_jax.data import Preprocessing
from magmax_jax.models import CLIPConfig
from magmax_jax.models.clip.checkpoint import read_config

OURS, TORCH = "benchmarks.evaluation_pass", "benchmarks.peers.evaluate_torch"
CLASSES, SIDE = 100, 32
"""Of the images, as those of CIFAR-100; sides in pixels."""


@dataclass(frozen=True)
class Work:
    """Some models, each of which is evaluated on all images.

    Attributes:
      model: directory of theta_0.
      data: images.npy uint8 (n, 32, 32, 3); labels.npy int32 (n,); classes.npy int32 (t, k / t), of
        each task; head.npy float32 (p, k).
      scales: of theta_0, one for each model: what a model is changes no speed.
      mean, std: that pixels are normalised by.
    """

    model: Path
    data: Path
    images: int
    tasks: int
    batch_size: int
    dtype: str
    platform: str
    mean: Sequence[float]
    std: Sequence[float]
    scales: tuple[float, ...] = (1.0,)

    @property
    def facts(self) -> Facts:
        """For a contender; JSON."""
        return vars(self) | {"model": str(self.model), "data": str(self.data)}

    def of_models(self, models: int) -> "Work":
        """The same work for so many models: theta_0 and ever more shrunk ones."""
        return replace(self, scales=tuple(1 - 0.01 * i for i in range(models)))


class Contender(NamedTuple):
    """Who evaluates: a module, what it is told besides, and how many models at a time."""

    name: str
    module: str
    options: Facts
    models: int = 1

    @property
    def is_peer(self) -> bool:
        return self.module == TORCH

    def on(self, work: Work, peers: Path, models: int | None = None) -> Contestant:
        """Evaluating so many models, by default as many as it takes at a time.

        Args:
          peers: the python of their environment.
        """
        python = str(peers) if self.is_peer else sys.executable
        settings = work.of_models(models or self.models).facts | self.options
        return Contestant(self.name, [python, "-m", self.module], settings)


def contenders(at_once: int, workers: int) -> list[Contender]:
    """All of them, ours first.

    Args:
      at_once: models in one pass of ours.
      workers: processes of a DataLoader.
    """

    def peer(way: str, compiled: bool, **more) -> Facts:
        return {"way": way, "compiled": compiled, "workers": workers, **more}

    return [
        Contender("ours", OURS, {"at_once": 1}),
        Contender(f"ours, {at_once} models at once", OURS, {"at_once": at_once}, at_once),
        Contender("official way", TORCH, peer("splits", False, dtype="float32")),
        Contender("official way, compiled", TORCH, peer("splits", True)),
        Contender("torch, compiled, one pass", TORCH, peer("once", True)),
    ]


def theta_0(work: Path, size: str, seed: int) -> tuple[Path, CLIPConfig, Preprocessing]:
    """The model's directory, its shape and its preprocessing."""
    if size == "tiny-clip":
        path = Path(TINY_CLIP)
        shape = read_config(path)
        told = json.loads((path / "preprocessor_config.json").read_text())
        return path, shape, Preprocessing.from_config(told, shape.vision.image_size)
    shape = SIZES[size].model
    (path,) = make_checkpoints(work, size, models=0, seed=seed)
    return path, shape, Preprocessing(shape.vision.image_size)


def make_data(folder: Path, images: int, tasks: int, projection: int, seed: int) -> Path:
    """Noise; every task has as many images and classes as the others, give or take one."""
    random = np.random.default_rng(seed)
    k = CLASSES // tasks
    classes = random.permutation(tasks * k).astype(np.int32).reshape(tasks, k)
    task_of = random.permutation(np.arange(images) % tasks)
    head = random.standard_normal((projection, tasks * k), np.float32)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", random.integers(0, 256, (images, SIDE, SIDE, 3), np.uint8))
    np.save(folder / "labels.npy", classes[task_of, random.integers(0, k, images)])
    np.save(folder / "classes.npy", classes)
    np.save(folder / "head.npy", head / np.linalg.norm(head, axis=0))
    return folder


def differing(ours: Sequence[Facts], theirs: Sequence[Facts], images: int) -> str:
    """How far two contenders' right predictions are apart, of the models that both evaluated."""
    largest = max(
        abs(a - b)
        for mine, other in zip(ours, theirs, strict=False)
        for protocol in ("agnostic", "aware")
        for a, b in zip(mine[protocol], other[protocol], strict=True)
    )
    return "equal" if not largest else f"up to {largest} images of a task, of {images:,} in all"
