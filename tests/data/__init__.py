from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
"""Real data sets and reference tables, next to the repository on some machines."""


def needs_shared(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / path).exists(), reason=f"no {SHARED / path}")
