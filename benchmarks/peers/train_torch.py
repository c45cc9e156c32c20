"""A training step of CLIP's image tower in torch: transformers' model, as its users train it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.peers import torch_device
from benchmarks.serving import Facts, Prepared

CLASSES = 100


class Way(NamedTuple):
    """How a step is computed.

    Attributes:
      autocast: bfloat16 where torch considers it safe, float32 elsewhere; if False, all float32.
      tf32: float32 products on tensor cores, which is JAX's default but not torch's.
      compiled: torch.compile's mode; None compiles nothing.
      fused: AdamW as one kernel; if False, as torch chooses.
    """

    autocast: bool = False
    tf32: bool = False
    compiled: str | None = None
    fused: bool = True


class Recipe(NamedTuple):
    """AdamW's hyperparameters; linear warm-up over `warmup` of `steps` steps, then a cosine."""

    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    warmup: int = 1
    steps: int = 1000

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        passed = (step - self.warmup) / (self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * passed)) / 2


Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(pixels float32 (b, 3, side, side), labels int64 (b,)) -> (loss, norm of its gradient)."""


def make_tower(
    config: Mapping[str, Any], state: Mapping[str, torch.Tensor] | None = None
) -> CLIPVisionModelWithProjection:
    """The image tower and its projection, float32, on the default device.

    Args:
      config: `CLIPVisionConfig`'s fields.
      state: the parameters; random ones by default.
    """
    settings = CLIPVisionConfig(**config)
    tower = CLIPVisionModelWithProjection._from_config(settings, attn_implementation="sdpa")
    if state is not None:
        tower.load_state_dict(state)
    return tower.train()


def make_step(tower: torch.nn.Module, head: torch.Tensor, way: Way, recipe: Recipe) -> Step:
    """A step on the cross-entropy with a frozen head (p, k); trains every tower parameter."""
    parameters = list(tower.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
        fused=way.fused or None,
    )  # fmt: skip
    torch.set_float32_matmul_precision("high" if way.tf32 else "highest")

    def loss_fn(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        features = tower(pixel_values=pixels).image_embeds
        features = features / features.norm(dim=-1, keepdim=True)
        return functional.cross_entropy(features @ head, labels)

    if way.compiled is not None:
        loss_fn = torch.compile(loss_fn, mode=way.compiled, dynamic=False)
    done = 0

    def step(pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(done)
        done += 1
        optimizer.zero_grad()
        with torch.autocast(head.device.type, torch.bfloat16, enabled=way.autocast):
            loss = loss_fn(pixels, labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        return loss.detach(), norm

    return step


def prepare(settings: Facts) -> Prepared:
    """A call is `steps` training steps on float32 noise that is already on the device.

    Args:
      settings: `config` (`make_tower`'s), `batch_size`, `steps`, `device` and `way` (`Way`'s).
    """
    b, steps = settings["batch_size"], settings["steps"]
    torch.manual_seed(0)
    device = torch.device(settings["device"])
    with device:
        tower = make_tower(settings["config"])
        side = tower.config.image_size
        pixels, labels = torch.randn(b, 3, side, side), torch.randint(CLASSES, (b,))
        head = functional.normalize(torch.randn(tower.config.projection_dim, CLASSES), dim=0)
    step, loss = make_step(tower, head, Way(**settings["way"]), Recipe()), None

    def run(times: int) -> float:
        nonlocal loss
        start = time.perf_counter()
        for _ in range(times):
            loss, _ = step(pixels, labels)
        torch_device.wait(device)
        return time.perf_counter() - start

    first, second = run(1), run(1)

    def last() -> Facts:
        return {"loss": loss.item(), "memory": torch_device.peak_bytes(device)}

    facts = {"compile": first - second, "device": torch_device.name(device)}
    return Prepared(facts, lambda: run(steps), last, units=steps)
