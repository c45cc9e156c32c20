"""A training step of CLIP's image tower in torch: transformers' model, as its users train it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.peers import torch_device
from benchmarks.turns import Facts, Prepared, serve

CLASSES = 100
NO_ROOM = "out of memory", "ALLOC_FAILED", "can't allocate memory"
"""What errors say where memory has no room."""


class Way(NamedTuple):
    """How a step is computed.

    Attributes:
      autocast: in bfloat16 what torch takes to be safe, the rest in float32; else all in float32.
      tf32: products of float32 on tensor cores, as JAX computes them by default; torch does not.
      compiled: torch.compile's mode; None compiles nothing.
      fused: AdamW as one kernel; else as torch chooses.
    """

    autocast: bool = False
    tf32: bool = False
    compiled: str | None = None
    fused: bool = True


class Recipe(NamedTuple):
    """AdamW's numbers, and a linear warm-up of `warmup` of `steps` steps, then a cosine."""

    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    warmup: int = 1
    steps: int = 1000


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


def noise(
    tower: CLIPVisionModelWithProjection, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head of random directions, float32 (p, k), pixels (b, 3, side, side) and labels (b,), on
    the default device."""
    side, width = tower.config.image_size, tower.config.projection_dim
    head = functional.normalize(torch.randn(width, CLASSES), dim=0)
    return head, torch.randn(batch_size, 3, side, side), torch.randint(CLASSES, (batch_size,))


def make_step(
    tower: torch.nn.Module, head: torch.Tensor, way: Way, recipe: Recipe | None = None
) -> Step:
    """One step on the cross-entropy of a frozen head, of every parameter of the tower.

    Args:
      head: float32 (p, k).
      recipe: the paper's by default.
    """
    recipe = recipe or Recipe()
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
            group["lr"] = rate(done, recipe)
        done += 1
        optimizer.zero_grad()
        with torch.autocast(head.device.type, torch.bfloat16, enabled=way.autocast):
            loss = loss_fn(pixels, labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        return loss.detach(), norm

    return step


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step, 0 for the first."""
    peak, warmup, steps = recipe.learning_rate, recipe.warmup, recipe.steps
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def prepare(settings: Facts) -> Prepared:
    """A call is `steps` training steps on noise that is on the device, float32 already.

    Args:
      settings: `config` (`make_tower`'s), `batch_size`, `steps`, `device` and `way` (`Way`'s).

    Raises:
      MemoryError: the device has no room for it; so does the call.
    """
    b, steps = settings["batch_size"], settings["steps"]
    device = torch.device(settings["device"])
    torch.manual_seed(0)

    def fitting(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RuntimeError as error:  # torch.OutOfMemoryError, cuBLAS's and the CPU's
            if any(sign in str(error) for sign in NO_ROOM):
                raise MemoryError(f"out of memory at a batch of {b}") from None
            raise

    def begin() -> tuple[Step, torch.Tensor, torch.Tensor]:
        with device:
            tower = make_tower(settings["config"])
            head, pixels, labels = noise(tower, b)
        return make_step(tower, head, Way(**settings["way"])), pixels, labels

    step, pixels, labels = fitting(begin)
    loss = None

    def run(times: int) -> float:
        nonlocal loss
        start = time.perf_counter()
        for _ in range(times):
            loss, _ = step(pixels, labels)
        torch_device.wait(device)
        return time.perf_counter() - start

    first, second = (fitting(lambda: run(1)) for _ in range(2))

    def last() -> Facts:
        return {"loss": loss.item(), "memory": torch_device.peak_bytes(device)}

    name = torch_device.name(device)
    facts = {"compile": first - second, "steps": steps, "device": name}
    return Prepared(facts, lambda: fitting(lambda: run(steps)), last)


if __name__ == "__main__":
    serve(prepare)
