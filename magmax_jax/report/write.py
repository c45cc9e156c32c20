"""Writes the report of runs into a folder, atomically."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.errors import MAGMAX, Program, UserError
from magmax_jax.io.atomic import replace_directory
from magmax_jax.report.groups import grouped
from magmax_jax.report.inputs import differing_inputs
from magmax_jax.report.picture import plot
from magmax_jax.report.runs import Run, find
from magmax_jax.runs.recorded import check_present

PAGE, PICTURE = "index.html", "accuracy.png"
OURS = {PAGE, PICTURE, "figures", "data"}


class Written(NamedTuple):
    """A report that was written.

    Attributes:
      page: its index.html.
      runs: how many it shows.
      notes: on folders that were left out.
    """

    page: Path
    runs: int
    notes: list[str]


def write(
    paths: Sequence[Path],
    out: Path | None = None,
    program: Program = MAGMAX,
    allow_changed: bool = False,
) -> Written:
    """Finds the runs in some folders and writes their report, as `build` does.

    Args:
      paths: runs, finished or not, or folders that contain runs at any depth.
      out: directory of the report; not set: report/ in the run, or in the folder with all runs.
      allow_changed: continue even if a run's inputs, where they still exist, have changed.

    Raises:
      UserError: as `find` and `build` do, or a run's inputs have changed since.
    """
    if out is None:
        out = folder_for(paths)
    runs, notes = find(paths)
    changed = check_present([run.path for run in runs], allow_changed)
    notes += [f"note: {note}" for note in changed]
    notes += [f"note: {sentence}" for sentence in differing_inputs(runs)]
    return Written(build(runs, out, program), len(runs), notes)


def build(runs: Sequence[Run], out: Path, program: Program = MAGMAX) -> Path:
    """Writes `index.html`, `figures/*.png|svg` and `data/*.csv` into `out`.

    Replaces an earlier report there, except for the `accuracy.png` that a run writes. `program`
    names the commands that the page shows.

    Returns:
      the page.

    Raises:
      UserError: `out` holds something other than a report, or cannot be written.
    """
    from magmax_jax.report.page import compose

    check(out)
    groups = grouped(runs, program)
    report = compose(groups)
    with replace_directory(out) as folder:
        for name, content in report.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        if (out / PICTURE).is_file():
            shutil.copy2(out / PICTURE, folder / PICTURE)
        elif len(runs) == 1:
            plot(runs[0].rows, groups[0].title, folder / PICTURE, runs[0].scales)
        (folder / PAGE).write_text(report.page, encoding="utf-8")
    return out / PAGE


def folder_for(paths: Sequence[Path]) -> Path:
    """Default folder of the report of some runs: report/ in the folder that contains them all.

    Raises:
      UserError: only the root of the file system contains them all.
    """
    holding = Path(os.path.commonpath([path.absolute() for path in paths]))
    if holding == Path(holding.anchor):
        raise UserError("the runs share no folder: name the report's directory with --out")
    here = Path.cwd()
    return (holding.relative_to(here) if holding.is_relative_to(here) else holding) / "report"


def check(out: Path) -> None:
    """Raises a UserError if `out` cannot take a report."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out")
    there = os.listdir(out) if out.exists() else []
    if any(name not in OURS and not name.endswith(".partial") for name in there):
        raise UserError(
            f"{out} is not empty, and what it holds is not a report: choose a new or empty "
            "directory as --out"
        )
