"""What a run measured as people read it: a table in the terminal, a picture, and one page.

Everything is made from the files of runs, without data, models or devices. `build` in `report.page`
makes the page; it is not imported here, for a run needs neither templates nor a plotting library
until it ends.
"""

from magmax_jax.report.picture import plot
from magmax_jax.report.terminal import table

__all__ = ["plot", "table"]
