"""The grids by name: lists of configurations as plain Python functions.

Each docstring says what the cells reproduce, the expected figure and its source, and the cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from magmax_jax.cli.grid.settings import class_incremental, domain_incremental, eight_datasets
from magmax_jax.cli.grid.settings import over_time as over_time_grid
from magmax_jax.cli.grid.settings import smoke as smoke_grid
from magmax_jax.cli.grid.settings.cell import Cell
from magmax_jax.config import SweepConfig

Settings = tuple[Callable[..., list[Cell]], ...]


@dataclass(frozen=True)
class Grid:
    """Cells to run for each seed."""

    title: str
    settings: Settings
    """Functions that list cells; their docstrings describe them."""
    seeds: tuple[int, ...] = (5,)
    """The paper used seed 5 only."""
    out: Path = Path("runs/paper")
    """Directory of the cells; grids that share cells share it."""
    takes_assets: bool = False
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Run for every cell after its training; --sweep.* change it."""

    def cells(self, assets: Path | None) -> list[Cell]:
        """The cells of one seed, all different."""
        given = (assets,) if self.takes_assets else ()
        cells = [cell for setting in self.settings for cell in setting(*given)]
        return list({cell.config: cell for cell in cells}.values())


CLASS = (
    class_incremental.cifar100,
    class_incremental.imagenet_r,
    class_incremental.cub200,
    class_incremental.cars,
)
DOMAIN = (domain_incremental.imagenet_r_domains, domain_incremental.domainnet)
EIGHT = (eight_datasets.eight,)

GRIDS = {
    "class-incremental": Grid("every task brings new classes", CLASS),
    "domain-incremental": Grid("every task brings a new domain of the same classes", DOMAIN),
    "eight-datasets": Grid("every task brings another data set", EIGHT),
    "all": Grid("the three above", (*CLASS, *DOMAIN, *EIGHT)),
    "smoke": Grid(
        "a small class- and domain-incremental grid, all methods",
        (smoke_grid.smoke,),
        seeds=(1, 2),
        out=Path("runs/smoke"),
        takes_assets=True,
    ),
    "over-time": Grid(
        "where tasks start and how they are merged, with scales chosen on held-out images",
        (over_time_grid.over_time,),
        seeds=(5, 6, 7),
        out=Path("runs/over-time"),
        takes_assets=True,
        sweep=over_time_grid.SWEEP,
    ),
}

__all__ = ["GRIDS", "Cell", "Grid"]
