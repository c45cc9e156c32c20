"""A process of its own that takes one training step and tells when it had come how far.

Its start is its parent's: both read the one monotonic clock of the system.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PARTS = (
    "interpreter",
    "imports",
    "model, batch and optimizer",
    "tracing and lowering",
    "compiling or reading",
    "first step",
)
"""What it does, one after another."""


def take_step(settings: dict[str, Any]) -> tuple[list[float], str]:
    """Monotonic seconds at the end of every part, and what it was computed on.

    Args:
      settings: `size` of `SIZES`, `batch_size`, `dtype`, and `cache`, the directory of compiled
        programs.
    """
    ends = [time.monotonic()]

    import jax

    from benchmarks.shapes import SIZES
    from benchmarks.workloads import training
    from magmax_jax.cli.engine import Engine

    Engine(Path(settings["cache"])).start()
    ends.append(time.monotonic())
    config = SIZES[settings["size"]].model
    trainer, theta, batch, objective = training(config, settings["batch_size"], settings["dtype"])
    state = jax.block_until_ready(trainer.init(theta))
    ends.append(time.monotonic())
    lowered = trainer.step.lower(state, batch, objective)
    ends.append(time.monotonic())
    step = lowered.compile()
    ends.append(time.monotonic())
    jax.block_until_ready(step(state, batch, objective))
    return [*ends, time.monotonic()], jax.devices()[0].device_kind


def main() -> None:
    """Settings are JSON in argv, `start` among them, the parent's clock; the seconds of every part
    go into the file `answer`."""
    settings = json.loads(sys.argv[1])
    tell(settings, PARTS, *take_step(settings))


def tell(
    settings: dict[str, Any], names: Sequence[str], ends: Sequence[float], device: str
) -> None:
    """Writes the seconds of every part, of whose ends the monotonic clock was read."""
    begun = [settings["start"], *ends[:-1]]
    parts = {name: end - start for name, start, end in zip(names, begun, ends, strict=True)}
    Path(settings["answer"]).write_text(json.dumps({"device": device, "parts": parts}))


if __name__ == "__main__":
    main()
