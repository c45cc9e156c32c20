"""What README's examples may write to."""

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def directory(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """A new directory, under this name in README's examples; other tests need none."""
    if request.node.path.name == "README.md":
        doctest_namespace["directory"] = request.getfixturevalue("tmp_path") / "merged"
