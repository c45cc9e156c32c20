"""Results of a run for readers: a table in the terminal, a picture, and one page.

Everything is made from the files of runs, without data, models or devices. `build` in `report.page`
makes the page; it is not imported here, because a run needs neither templates nor a plotting
library until it ends.

The package is also callable: `magmax_jax.report("runs/x")` writes that run's page.
"""

import sys
from pathlib import Path
from types import ModuleType

from magmax_jax.errors import UserError, harmless
from magmax_jax.io.user_path import user_path
from magmax_jax.packages import missing_extras_named
from magmax_jax.report.picture import plot
from magmax_jax.report.terminal import table

__all__ = ["plot", "report", "table"]


@missing_extras_named()
def report(*runs: Path | str, out: Path | str | None = None, allow_changed: bool = False) -> Path:
    """Writes index.html about runs, with its figures and the numbers as CSV files beside it.

    Args:
      runs: directories of runs, finished or not, or folders that contain runs at any depth. Runs
        of one scenario are compared side by side.
      out: directory of the report; not set: report/ in the run, or in the folder that contains all
        runs. An earlier report there is replaced.
      allow_changed: continue even if the files of a run's model or data, where they still exist,
        differ from those that it recorded.

    Returns:
      the page.

    Raises:
      UserError: there is no run, the inputs of a run have changed since, or `out` holds something
        other than a report.
    """
    from magmax_jax.report.write import write

    if not runs:
        raise UserError("no runs are given: name runs, or folders that contain some")
    for run in runs:
        if not isinstance(run, str | Path):
            raise UserError(
                f"a {type(run).__name__} is not a run directory: pass each run separately, "
                'mm.report("runs/a", "runs/b")'
            )
    paths = [user_path(run, "run") for run in runs]
    where = None if out is None else user_path(out, "out")
    page, _, notes = write(paths, where, allow_changed=allow_changed)
    for note in notes:
        print(harmless(note), file=sys.stderr)
    return page


class _Report(ModuleType):
    """This package as a function. A separate function `magmax_jax.report` is impossible: importing
    the package would replace it."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Report
