"""What README's examples may write to."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def directory(doctest_namespace: dict[str, Any], tmp_path: Path) -> None:
    """A new directory, under this name in README's examples."""
    doctest_namespace["directory"] = tmp_path / "merged"
