"""Many experiments: `magmax grid NAME [options] [--field value ...]`."""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.cli.flags import parse as parse_flags
from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid.launchers import Launcher
from magmax_jax.cli.grid.settings import GRIDS, Cell, Grid
from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.errors import MAGMAX, Interrupted, Program, UserError, counted
from magmax_jax.registry import COMMANDS

USAGE = """\
usage: {grid} NAME [options] [--field value ...]

grids
{grids}
{grid} NAME --help shows what a grid holds, and the options.
Every field of an experiment ({run} class --help) can be changed in all cells:
{grid} smoke --dry-run --train.epochs 1"""


@dataclass(frozen=True)
class Options:
    """Which cells of the grid to run, and how. Other flags are fields of an experiment (see the
    help of `run class`) and change every cell."""

    seeds: str | None = None
    """Run each cell once per seed: 1,2,3. The published seed is 5."""
    only: str | None = None
    """Cells whose name (setting/method/seed-N, as --dry-run shows it) holds this text or matches
    this pattern: 'cifar100-*/ewc/*'."""
    preset: Literal["paper"] | None = None
    """paper: follow the published code, even where it differs from the paper."""
    dry_run: bool = False
    """Show finished cells and those that would run, with steps and bytes, and for Slurm the sbatch
    options; run nothing."""
    out: Path | None = None
    """Directory of the cells; default: runs/smoke for smoke, runs/over-time for over-time,
    runs/paper for the others."""
    assets: Path | None = None
    """For smoke and over-time: a folder with a small CLIP, CIFAR-100 and PACS. Default: shared/
    beside the repository if it exists, else the bundled CLIP and digits."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Rules to sweep over scales in each cell after its tasks are learned."""
    launch: Annotated[Launcher, tyro.conf.arg(name="")] = field(default_factory=Launcher)


def parse(argv: list[str], program: Program = MAGMAX) -> tuple[Grid, Options, list[str]]:
    """The command line: which grid, how, and the flags that change its cells.

    Raises:
      UserError: there is no such grid, or it does not take the option.
      SystemExit: a flag is wrong (code 2), or help was asked for (code 0).
    """
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        grids = "".join(f"  {name:<20}{grid.title}\n" for name, grid in GRIDS.items())
        print(USAGE.format(grids=grids, grid=program.line("grid"), run=program.line("run")))
        raise SystemExit(0)
    if name not in GRIDS:
        raise UserError(f"{name!r} is not a grid: choose from {', '.join(GRIDS)}")
    grid = GRIDS[name]
    options, flags = parse_flags(
        Options,
        rest,
        prog=program.line("grid", name),
        description=describe(grid),
        default=Options(sweep=grid.sweep),
        return_unknown_args=True,
    )
    if options.assets and not grid.takes_assets:
        raise UserError(
            f"--assets is for smoke and over-time; {name} takes --model.source and "
            "--scenario.data-dir"
        )
    if any(flag.split("=")[0] == "--seed" for flag in flags):
        raise UserError("--seed is for one run: a grid takes --seeds, as in --seeds 1,2,3")
    return grid, options, flags


def describe(grid: Grid, cells: Sequence[Cell] | None = None) -> str:
    """The docstrings of its settings.

    Args:
      cells: only the settings of these; all by default.
    """
    settings = grid.settings
    if cells is not None and len(settings) > 1:
        chosen = {cell.setting for cell in cells}
        settings = tuple(s for s in settings if chosen & {cell.setting for cell in s()})
    texts = [inspect.cleandoc(setting.__doc__ or "") for setting in settings]
    return f"{grid.title[0].upper()}{grid.title[1:]}.\n\n" + "\n\n".join(texts)


def select(grid: Grid, options: Options, flags: list[str]) -> list[Cell]:
    """The cells, changed as the flags say, for each seed.

    Raises:
      UserError: a seed is not a number, or no cell is left.
      SystemExit: a flag is wrong.
    """
    seeds = _seeds(grid, options.seeds)
    cells = [cell.with_seed(seed) for seed in seeds for cell in grid.cells(options.assets)]
    cells = [_swept(cell, options.sweep) for cell in cells]
    # Filter first: changes need not be valid for cells that are left out (--method.strength).
    cells = _named(cells, options.only or "")
    if options.preset:
        from magmax_jax.api import presets

        cells = [_with(cell, getattr(presets, options.preset)(cell.config)) for cell in cells]
    if flags:
        cells = [_with(cell, _changed(cell.config, flags)) for cell in cells]
    from magmax_jax.runs.check import check_config

    for cell in cells:
        check_config(cell.config)
    alike = {cell.config: cell for cell in reversed(cells)}
    for cell in cells:
        if alike[cell.config] is not cell:
            same = alike[cell.config].name
            print(f"{cell.name} now equals {same}, so it is left out", file=sys.stderr)
    return [cell for cell in cells if alike[cell.config] is cell]


def _named(cells: list[Cell], pattern: str) -> list[Cell]:
    chosen = [c for c in cells if pattern in c.name or fnmatchcase(c.name, pattern)]
    if not chosen:
        names = sorted({f"{cell.setting}/{cell.method}" for cell in cells})
        raise UserError(f"--only {pattern} matches no cell: there are {', '.join(names)}")
    return chosen


def _swept(cell: Cell, sweep: SweepConfig) -> Cell:
    return cell if cell.config.method.joint else replace(cell, sweep=sweep)


def _with(cell: Cell, config: ExperimentConfig) -> Cell:
    return replace(cell, config=config)


def _changed(config: ExperimentConfig, flags: list[str]) -> ExperimentConfig:
    return parse_flags(ExperimentConfig, flags, default=config, prog="grid")


def _seeds(grid: Grid, text: str | None) -> tuple[int, ...]:
    if text is None:
        return grid.seeds
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds {text}: write numbers separated by commas, e.g. 1,2,3") from None
    if min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(
            f"--seeds {text}: seeds must be at least 0 and below 2^32 = {2**32}, because JAX keeps "
            "only their low 32 bits"
        )
    return tuple(dict.fromkeys(seeds))


def run_here(cells: list[Cell], out: Path, program: Program = MAGMAX) -> dict[Cell, one.Outcome]:
    """Runs the cells one after another.

    Raises:
      Interrupted: the process was asked to stop; the running cell has saved and can resume.
    """
    outcomes = {}
    with one.relayed() as relay:
        for number, cell in enumerate(cells, start=1):
            one.prepare(cell, out)
            command = one.command(program, cell, out)
            print(f"[{number}/{len(cells)}] {cell.name}\n$ {one.shown(command)}", flush=True)
            outcomes[cell] = relay.run(command, one.lock_of(cell, out))
            if relay.signal is not None:
                raise Interrupted(relay.signal)
            if outcomes[cell].failed:
                print(f"{cell.name} failed: {outcomes[cell].reason}", file=sys.stderr)
    return outcomes


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Runs the cells that the command line names.

    Raises:
      SystemExit: a cell failed (code 1), which did not stop the others.
    """
    grid, options, flags = parse(argv, program)
    cells = select(grid, options, flags)
    out = options.out or grid.out
    states = {cell: one.state(cell, out) for cell in cells}
    due = [cell for cell, state in states.items() if state in ("to do", "interrupted")]
    if options.dry_run:
        from magmax_jax.cli.grid.forecast import forecast

        print(describe(grid, cells))
        forecast(states, out, program)
        if options.launch.launcher == "slurm" and due:
            print(f"\n{options.launch.describe(due, out, program)}")
        return
    settings = ", ".join(dict.fromkeys(cell.setting for cell in cells))
    done = len(cells) - len(due)
    print(
        f"{out}: {counted(len(cells), 'cell')}, {done} of them done or running elsewhere "
        f"({settings})"
    )
    for note in options.launch.notes():
        print(note, file=sys.stderr)
    try:
        if options.launch.launcher is None:
            outcomes = run_here(due, out, program)
        else:
            outcomes = options.launch.run(due, out, program)
    except Interrupted as interruption:
        if options.launch.launcher == "slurm":  # the same command would submit the jobs again
            raise
        again = f"continue with: {program.line('grid', *argv)}"
        raise Interrupted(interruption.signal, again) from None
    if report(outcomes, out, program):
        raise SystemExit(1)


def report(outcomes: dict[Cell, one.Outcome], out: Path, program: Program = MAGMAX) -> list[Cell]:
    """Reports which cells failed, and why, and returns them."""
    failed = {cell: outcome for cell, outcome in outcomes.items() if outcome.failed}
    elsewhere = [cell.name for cell, ended in outcomes.items() if ended.code == one.ELSEWHERE]
    if elsewhere:
        print(f"left to another grid that runs them: {', '.join(elsewhere)}")
    print(f"tables: {program.line('table', str(out))}")
    if any(cell.sweep.rules for cell in outcomes):
        print(f"starts and rules compared: {program.line('results', str(out))}")
    if failed:
        print(f"\n{len(failed)} of {counted(len(outcomes), 'cell')} failed:", file=sys.stderr)
    for cell, outcome in failed.items():
        print(f"  {cell.name}: {outcome.reason}", file=sys.stderr)
        print(f"    {one.shown(one.command(program, cell, out))}", file=sys.stderr)
    return list(failed)


COMMANDS.register("grid", Command("Runs many experiments, such as the paper's tables.", main))
