"""What a section of the report is: an entry of `registry.REPORT_SECTIONS`."""

from collections.abc import Callable
from dataclasses import dataclass

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Item


@dataclass(frozen=True)
class Section:
    """A chapter of the page, registered in the module that defines it under its id on the page.

    REPORT_SECTIONS.register("luck", Section("Luck", 95, items))
    """

    title: str
    order: float
    """Its position: sections are in ascending order; the bundled ones are at 10, 20, ... 180."""
    items: Callable[[Group], list[Item]]
    """Makes its items from the runs of one scenario; an empty section is left out."""


def sections() -> list[tuple[str, Section]]:
    """Every section by its name, in the order of the page."""
    return sorted(REPORT_SECTIONS.items(), key=lambda named: named[1].order)
