"""The generated pages, by their file names in `docs/`."""

from collections.abc import Callable
from pathlib import Path

from tools.docs import data_sets, rules, scenarios, troubleshooting

DOCS = Path(__file__).parents[2] / "docs"

PAGES: dict[str, Callable[[], str]] = {
    "rules.md": rules.page,
    "scenarios.md": scenarios.page,
    "datasets.md": data_sets.page,
    "troubleshooting.md": troubleshooting.page,
}


def out_of_date() -> list[str]:
    """Names of pages that are missing or differ from what the package says now."""
    return [
        name
        for name, page in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text() != page()
    ]
