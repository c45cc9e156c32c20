"""What a grid would run, as a table: states, steps, bytes and computation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import jax
from rich.console import Console
from rich.table import Table

from magmax_jax.cli.flags import with_flags
from magmax_jax.cli.grid.cells import State
from magmax_jax.cli.grid.settings import Cell
from magmax_jax.errors import MAGMAX, Program, UserError
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.estimate import DataSize, Estimate, data_size, estimate

SUSTAINED = 1e14
"""Operations per second assumed when computing hours: about what an A100 sustains on a ViT."""
Number = TypeVar("Number", int, float)


def forecast(states: Mapping[Cell, State], out: Path, program: Program = MAGMAX) -> None:
    """Prints the table; loads nothing except the labels of data that is already prepared."""
    jax.config.update("jax_platforms", "cpu")  # a dry run must not take a GPU's memory
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 100)  # a narrow terminal wraps instead of hiding numbers
    table = Table(box=None, header_style="bold")
    table.add_column("cell", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for column in ("tasks", "steps", "checkpoints", "PFLOP"):
        table.add_column(column, justify="right", no_wrap=True)
    sizes: dict = {}
    plans: dict[Cell, Estimate] = {}
    notes: dict[str, None] = {}
    for cell, state in states.items():
        try:
            plans[cell] = found = estimate(cell.config, _size(sizes, cell))
        except UserError as error:
            notes[with_flags(str(error))] = None
            table.add_row(cell.name, state, *["?"] * 4)
            continue
        notes |= dict.fromkeys(
            filter(None, (_inexact(found, program), found.unknown, *found.notes))
        )
        table.add_row(cell.name, state, str(found.tasks), *_numbers(found))
    for title, kept in (
        ("all", list(plans)),
        ("not done", [cell for cell in plans if states[cell] != "done"]),
    ):
        chosen = [plans[cell] for cell in kept]
        table.add_row(f"{title} ({len(chosen)})", "", "", *_numbers(_sum(chosen)), style="bold")
    console.print(table)
    left = _sum([found for cell, found in plans.items() if states[cell] != "done"])
    if left.flops is not None:
        hours = left.flops / SUSTAINED / 3600
        console.print(
            f"{_short(hours)} GPU-hours remaining at {SUSTAINED / 1e12:.0f} TFLOP/s sustained: "
            "three forward passes for each training image, one for each evaluated one"
        )
    for note in notes:
        console.print(note)
    console.print(f"cells are in {out}; checkpoints: the most that a run needs while it is running")


def _inexact(found: Estimate, program: Program) -> str:
    """What the "~" before a number of steps means, and the command that makes it exact."""
    remedy = f": run {program.line(*found.remedy)}" if found.remedy else ""
    return f"~ {with_flags(found.inexact)}{remedy}" if found.inexact else ""


def _size(sizes: dict, cell: Cell) -> DataSize:
    """Size of the cell's data, read once for all cells that share it.

    The seed matters only if the order of classes or tasks is random.
    """
    scenario, seed = cell.config.scenario, cell.config.seed
    if "num_tasks" not in SCENARIO_KINDS[scenario.kind].reads:
        scenario = replace(scenario, num_tasks=1)
    random = scenario.order == "random" or scenario.shuffle_tasks
    key = scenario, seed if random else None
    if key not in sizes:
        sizes[key] = data_size(scenario, seed)
    return sizes[key]


def _sum(plans: list[Estimate]) -> Estimate:
    return Estimate(
        tasks=0,
        steps=sum(p.steps for p in plans),
        images=sum(p.images for p in plans),
        evaluated=sum(p.evaluated for p in plans),
        nbytes=_total([p.nbytes for p in plans]),
        flops=_total([p.flops for p in plans]),
        inexact="".join(p.inexact for p in plans),
        unknown="".join(p.unknown for p in plans),
    )


def _total(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _numbers(found: Estimate) -> tuple[str, str, str]:
    nbytes = "?" if found.nbytes is None else f"{found.nbytes / 1e9:,.2f} GB"
    flops = "?" if found.flops is None else _short(found.flops / 1e15)
    return f"{'~' if found.inexact else ''}{found.steps:,}", nbytes, flops


def _short(number: float) -> str:
    return f"{number:,.1f}" if number >= 1 else f"{number:.2g}"
