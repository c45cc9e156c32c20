"""Evaluation in torch, a plain version of the published official experiments.

Pillow decodes, resizes and normalises images one by one in a DataLoader's processes. For accuracies
among all classes and among each task's own, the official way goes through every task's images
twice, with a new loader each time; `once` computes both in one pass over all images.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import CLIPModel

from benchmarks.peers import torch_device
from benchmarks.serving import Facts, Prepared

PROTOCOLS = ("agnostic", "aware")


class Images(Dataset):
    """CLIP's transform: Resize(size, bicubic), CenterCrop(size), ToTensor, Normalize."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, size: int, mean, std):
        self.images, self.labels, self.size = images, labels, size
        self.mean, self.std = (torch.tensor(v).reshape(3, 1, 1) for v in (mean, std))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image, size = Image.fromarray(self.images[i]), self.size
        width, height = image.size
        short = min(width, height)
        width, height = size * width // short, size * height // short
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return (pixels.float() / 255 - self.mean) / self.std, int(self.labels[i])


class Tower(torch.nn.Module):
    """transformers' image tower and projection, and a frozen head: pixels to logits (b, k)."""

    def __init__(self, clip: CLIPModel, head: np.ndarray):
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        self.register_buffer("head", torch.from_numpy(head))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.projection(self.vision(pixel_values=pixels).pooler_output)
        return torch.nn.functional.normalize(features.float(), dim=-1) @ self.head


class Evaluation:
    """All accuracies of one model."""

    def __init__(self, settings: Facts, device: torch.device):
        images, labels, classes, head = (
            np.load(Path(settings["data"]) / f"{name}.npy")
            for name in ("images", "labels", "classes", "head")
        )
        clip = CLIPModel.from_pretrained(settings["model"], dtype=torch.float32)
        self.settings, self.device, self.tasks = settings, device, len(classes)
        self.tower = Tower(clip, head).to(device).eval()
        self.forward = torch.compile(self.tower) if settings["compiled"] else self.tower
        size = clip.config.vision_config.image_size
        self.images = Images(images, labels, size, settings["mean"], settings["std"])
        self.task_of = torch.empty(classes.size, dtype=torch.long, device=device)
        for number, own in enumerate(torch.from_numpy(classes).to(device)):
            self.task_of[own] = number
        everything = range(len(images))
        owned = [np.flatnonzero(np.isin(labels, own)).tolist() for own in classes]
        self.passes = [(PROTOCOLS, everything)]
        if settings["way"] == "splits":
            self.passes = [((protocol,), own) for protocol in PROTOCOLS for own in owned]

    def right(self) -> dict[str, list[int]]:
        """Number of correctly classified images of every task, by protocol."""
        zeros = torch.zeros(self.tasks, dtype=torch.long, device=self.device)
        counts = {protocol: zeros.clone() for protocol in PROTOCOLS}
        for protocols, images in self.passes:
            for logits, labels in self.logits(images):
                task = self.task_of[labels]
                for protocol in protocols:
                    if protocol == "aware":
                        logits = logits.masked_fill(self.task_of != task[:, None], -torch.inf)
                    counts[protocol].index_add_(0, task, (logits.argmax(dim=1) == labels).long())
        return {protocol: count.tolist() for protocol, count in counts.items()}

    def logits(self, images: Sequence[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """float32 (b, k) and labels (b,), a batch at a time."""
        loader = DataLoader(
            Subset(self.images, images), self.settings["batch_size"],
            num_workers=self.settings["workers"], pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        kind = contextlib.nullcontext()
        if self.settings["dtype"] == "bfloat16":
            kind = torch.autocast(self.device.type, torch.bfloat16)
        for pixels, labels in loader:
            with kind:
                logits = self.forward(pixels.to(self.device, non_blocking=True))
            yield logits.float(), labels.to(self.device, non_blocking=True)

    def warm(self) -> None:
        """Compiles for every batch size, which torch.compile would otherwise do on first use."""
        b = self.settings["batch_size"]
        counts = [len(images) for _, images in self.passes]
        sizes = {min(n, b) for n in counts} | {n % b for n in counts if n > b}
        for size in sorted(sizes - {0}, reverse=True):
            next(self.logits(range(size)))


def prepare(settings: Facts) -> Prepared:
    """Runs batches of every size through the tower once.

    Args:
      settings: those of `benchmarks.evaluate.work`, `compiled`, `way` ("splits" or "once") and
        `workers`.
    """
    gpu = torch.cuda.is_available()
    if settings["platform"] != "cpu" and not gpu:
        raise RuntimeError("this torch sees no GPU")
    device = torch.device("cuda" if gpu and settings["platform"] != "cpu" else "cpu")
    evaluation = Evaluation(settings, device)
    weights = dict(evaluation.tower.named_parameters())
    theta = {name: value.detach().clone() for name, value in weights.items()}
    found: list[dict[str, list[int]]] = []

    @torch.no_grad()
    def call() -> None:
        found.clear()
        for scale in settings["scales"]:
            for name, value in weights.items():
                value.copy_(scale * theta[name])
            found.append(evaluation.right())

    start = time.perf_counter()
    with torch.no_grad():
        evaluation.warm()
    facts = {"device": torch_device.name(device), "first": time.perf_counter() - start}
    return Prepared(
        facts, call, lambda: {"memory": torch_device.peak_bytes(device), "right": found}
    )
