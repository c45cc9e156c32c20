"""Data sets with the catalogue's classes and domains and a few generated images of each."""

from functools import cache

import numpy as np

from magmax_jax.cli.grid.settings import GRIDS, Cell
from magmax_jax.cli.grid.settings import smoke as smoke_grid
from magmax_jax.data import Source
from magmax_jax.data.catalogue import find
from magmax_jax.data.published import published_domains

OTHERS = {"digits": (10, 1), "digits_styles": (10, 3), "folder": (7, 4)}
"""Classes and domains of data outside the catalogue."""
SIDE = 8


def source(dataset: str, split: str, data_dir: str | None = None) -> Source:
    """Two training images, or one test image, of each class and domain."""
    domain_names = published_domains(dataset)
    if dataset in OTHERS:
        classes, domains = OTHERS[dataset]
        domain_names = tuple(f"domain {i}" for i in range(domains)) if domains > 1 else ()
    else:
        classes, domains = find(dataset).classes, len(domain_names) or 1
    copies = 2 if split == "train" else 1
    labels, places = (
        a.ravel().astype(np.int32) for a in np.indices((classes, domains)).repeat(copies, axis=2)
    )
    rng = np.random.default_rng(classes + copies)
    return Source(
        images=rng.integers(0, 256, (len(labels), SIDE, SIDE, 3), np.uint8),
        labels=labels,
        class_names=class_names(dataset, classes),
        domains=places if domain_names else None,
        domain_names=domain_names,
        image_shape=(SIDE, SIDE),
    )


@cache
def class_names(dataset: str, classes: int) -> tuple[str, ...]:
    """The published class names, without which a data set may be refused."""
    data = find(dataset)
    published = data.class_names if data else ()
    plain = tuple(f"name {i}" for i in range(classes))
    return published if len(published) == classes else plain


def all_cells() -> dict[str, Cell]:
    """Every cell of every grid for one seed, by name; smoke's without a folder of assets."""
    beside, smoke_grid.BESIDE = smoke_grid.BESIDE, smoke_grid.BESIDE / "nowhere"
    cells = {
        f"{name}: {cell.setting}/{cell.method}": cell
        for name, grid in GRIDS.items()
        for cell in grid.cells(None)
        if name != "all"  # repeats the cells of the others
    }
    smoke_grid.BESIDE = beside
    return cells
