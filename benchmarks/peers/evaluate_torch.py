"""Evaluation in torch, written plainly after what is published of the official experiments.

Images are decoded, resized and normalised one by one by Pillow in a DataLoader's processes; a pass
counts which are right among the classes of a head. For accuracies among all classes and among each
task's own every task's images are gone through twice, with a loader of their own each time; told
to, both are taken from one pass over all images instead.
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
from benchmarks.turns import Facts, Prepared, serve


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
        data = Path(settings["data"])
        images, labels = np.load(data / "images.npy"), np.load(data / "labels.npy")
        self.classes = torch.from_numpy(np.load(data / "classes.npy")).to(device)
        clip = CLIPModel.from_pretrained(settings["model"], dtype=torch.float32)
        self.tower = Tower(clip, np.load(data / "head.npy")).to(device).eval()
        size = clip.config.vision_config.image_size
        self.images = Images(images, labels, size, settings["mean"], settings["std"])
        owned = (np.isin(labels, own) for own in np.load(data / "classes.npy"))
        self.tasks = [np.flatnonzero(mask).tolist() for mask in owned]
        self.settings, self.device = settings, device
        self.forward = torch.compile(self.tower) if settings["compiled"] else self.tower

    def split_by_split(self) -> dict[str, list[int]]:
        """A pass over each task's images for each protocol."""
        right: dict[str, list[int]] = {"agnostic": [], "aware": []}
        for protocol, counts in right.items():
            for own, task in zip(self.classes, self.tasks, strict=True):
                correct = 0
                for logits, labels in self.logits(Subset(self.images, task)):
                    if protocol == "aware":
                        found = own[logits[:, own].argmax(dim=1)]
                    else:
                        found = logits.argmax(dim=1)
                    correct += (found == labels).sum().item()
                counts.append(correct)
        return right

    def once(self) -> dict[str, list[int]]:
        """One pass over all images, both protocols from the same logits."""
        task_of = torch.empty(self.classes.numel(), dtype=torch.long, device=self.device)
        for number, own in enumerate(self.classes):
            task_of[own] = number
        agnostic = torch.zeros(len(self.classes), dtype=torch.long, device=self.device)
        aware = agnostic.clone()
        for logits, labels in self.logits(self.images):
            task = task_of[labels]
            inside = task_of[None] == task[:, None]
            own = logits.masked_fill(~inside, -torch.inf).argmax(dim=1)
            agnostic.index_add_(0, task, (logits.argmax(dim=1) == labels).long())
            aware.index_add_(0, task, (own == labels).long())
        return {"agnostic": agnostic.tolist(), "aware": aware.tolist()}

    def logits(self, images: Dataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """float32 (b, k) and labels (b,), a batch at a time."""
        loader = DataLoader(
            images,
            self.settings["batch_size"],
            num_workers=self.settings["workers"],
            pin_memory=self.device.type == "cuda",
        )
        half = self.settings["dtype"] == "bfloat16"
        kind = (
            torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()
        )
        for pixels, labels in loader:
            with kind:
                logits = self.forward(pixels.to(self.device, non_blocking=True))
            yield logits.float(), labels.to(self.device, non_blocking=True)

    def warm(self, images: Sequence[int]) -> None:
        """Compiles for every size of batches that passes over so many images have: torch.compile
        would do so within the first of them."""
        b = self.settings["batch_size"]
        sizes = {min(n, b) for n in images} | {n % b for n in images if n > b}
        for size in sorted(sizes - {0}, reverse=True):
            next(self.logits(Subset(self.images, range(size))))


def prepare(settings: Facts) -> Prepared:
    """Batches of every size have been through the tower.

    Args:
      settings: as `evaluation_work.Work` tells them; `compiled`, `way` ("splits" or "once") and
        `workers`.
    """
    gpu = torch.cuda.is_available()
    if settings["platform"] != "cpu" and not gpu:
        raise RuntimeError("this torch sees no GPU")
    device = torch.device("cuda" if gpu and settings["platform"] != "cpu" else "cpu")
    evaluation = Evaluation(settings, device)
    weights = dict(evaluation.tower.named_parameters())
    theta = {name: value.detach().clone() for name, value in weights.items()}
    way = evaluation.once if settings["way"] == "once" else evaluation.split_by_split
    found: list[dict[str, list[int]]] = []

    @torch.no_grad()
    def call() -> None:
        found.clear()
        for scale in settings["scales"]:
            for name, value in weights.items():
                value.copy_(scale * theta[name])
            found.append(way())

    def last() -> Facts:
        return {"memory": torch_device.peak_bytes(device), "right": found}

    start = time.perf_counter()
    with torch.no_grad():
        once = settings["way"] == "once"
        passes = [evaluation.images] if once else evaluation.tasks
        evaluation.warm([len(images) for images in passes])
    name = torch_device.name(device)
    return Prepared({"device": name, "first": time.perf_counter() - start}, call, last)


if __name__ == "__main__":
    serve(prepare)
