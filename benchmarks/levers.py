"""What makes the training step fast: each choice of the product against another way, in one run.

python -m benchmarks.levers --output levers.md
"""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import tyro

from benchmarks import alternatives as other
from benchmarks import device
from benchmarks.choosing import check_positive, matching
from benchmarks.limits import SAMPLE, in_place, in_turn
from benchmarks.machine import machine, told_versions
from benchmarks.output import Output
from benchmarks.shapes import SIZES
from benchmarks.tables import markdown
from benchmarks.workloads import training
from magmax_jax.errors import exit_code

COLUMNS = [
    "what the product does", "the other way", "ours, s", "other, s", "other / ours",
    "temporary memory, ours and other, GB", "compilation, ours and other, s",
]  # fmt: skip


class Lever(NamedTuple):
    """One choice.

    Attributes:
      ours: what the product does.
      theirs: what it could do instead.
      context: within which the step is built that other way.
      only: the backend or the dtype for which it makes a difference; None for all.
      base: within which both are built: where the product would do neither, a part of it that has
        to be out of the way.
    """

    ours: str
    theirs: str
    context: Callable[[], contextlib.AbstractContextManager]
    only: Literal["gpu", "bfloat16"] | None = None
    base: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


policies = jax.checkpoint_policies
LEVERS = [
    Lever(
        "heads before tokens, explicit", "jax.nn, tokens first, XLA", other.attention_of_jax,
        base=other.attention_without_cudnn,
    ),
    Lever("cuDNN's attention", "explicit", other.attention_without_cudnn, only="gpu"),
    Lever(
        "divided after the second product", "softmax first", other.weights_divided_first,
        base=other.attention_without_cudnn,
    ),
    Lever("q, k, v in one product", "three products", other.three_products),
    Lever("kernels (in, out)", "kernels (out, in)", other.kernels_out_in),
    Lever("patches by a product", "a convolution", other.convolution),
    Lever("a scan over layers", "unrolled", other.layers_unrolled),
    Lever(
        "three products a block are kept", "everything is kept",
        lambda: other.kept(policies.everything_saveable),
    ),
    Lever(
        "three products a block are kept", "every product is kept",
        lambda: other.kept(policies.dots_saveable),
    ),
    Lever(
        "three products a block are kept", "only its input is kept (remat)",
        lambda: other.kept(policies.nothing_saveable),
    ),
    Lever("Adam leaf by leaf", "all parameters in one vector", other.parameters_in_one_vector),
    Lever(
        "kernels cast block by block", "all before the layers",
        other.kernels_cast_before_the_layers, only="bfloat16",
    ),
    Lever("the state's buffers are donated", "not donated", other.state_not_donated),
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Times the training step as it is and with one difference at a time, pair by pair."""

    size: Literal["vit-l14", "vit-b16", "small", "tiny"] = "vit-b16"
    batch_size: int | None = None
    """16 on a CPU, else 128."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation: float32 on a CPU, else bfloat16."""
    repeats: int = 5
    """Of each pair, in turn; the medians are told."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of what is done the other way."""
    output: Path | None = None
    """File for the table; every single run goes into a .jsonl beside it."""


class Step:
    """A compiled training step and its state."""

    def __init__(self, settings: Settings, context: contextlib.AbstractContextManager):
        config = SIZES[settings.size].model
        with context:
            work = training(config, settings.batch_size, settings.dtype)
            state, rest = work.trainer.init(work.theta), (work.batch, work.objective, ())
            lowered = work.trainer.step.lower(state, *rest)
            start = time.perf_counter()
            compiled = lowered.compile()
        self.compilation = time.perf_counter() - start
        self.temporary: int = compiled.memory_analysis().temp_size_in_bytes
        """Bytes that a step takes besides its state."""
        self.call = in_place(lambda state: compiled(state, *rest)[0], state)


def compare(settings: Settings, lever: Lever) -> tuple[list[str], dict]:
    """A row of the table, and all that was measured for it."""
    with lever.base():
        pair = Step(settings, contextlib.nullcontext()), Step(settings, lever.context())
    calls = {"ours": pair[0].call, "theirs": pair[1].call}
    ours, theirs = in_turn(calls, settings.repeats, SAMPLE).values()
    ratio = statistics.median(theirs) / statistics.median(ours)
    row = [
        lever.ours,
        lever.theirs,
        f"{statistics.median(ours):.3g}",
        f"{statistics.median(theirs):.3g}",
        f"{ratio:.3f}",
        " ".join(f"{step.temporary / 1e9:.2f}" for step in pair),
        " ".join(f"{step.compilation:.1f}" for step in pair),
    ]
    measured = {"ours": ours, "theirs": theirs, "temporary": [s.temporary for s in pair]}
    return row, {"lever": lever.ours, "other": lever.theirs} | measured


def run(settings: Settings) -> None:
    """Prints the table, and writes it.

    Raises:
      UserError: nothing is called so, or a number is not positive.
    """
    check_positive({"--batch-size": settings.batch_size, "--repeats": settings.repeats})
    here = device.here()
    defaults = (16, "float32") if here.platform == "cpu" else (128, "bfloat16")
    settings = replace(
        settings,
        batch_size=settings.batch_size or defaults[0],
        dtype=settings.dtype or defaults[1],
    )
    fitting = [one for one in LEVERS if one.only in (None, here.platform, settings.dtype)]
    chosen = matching(fitting, settings.only, lambda lever: lever.theirs)
    work = f"{settings.size}, batch {settings.batch_size}, {settings.dtype}"
    description = machine() | here.facts | {"versions": told_versions(), "step": work}
    output, rows = Output(settings.output, description), []
    for lever in chosen:
        row, measured = compare(settings, lever)
        output.record(measured)
        rows.append(row)
        print(row, flush=True)
    output.show(markdown(COLUMNS, rows))


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.levers", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
