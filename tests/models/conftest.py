from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.weights import CONFIGS, weights, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[str], Path]:
    """Writes one of the small checkpoints into the test's own directory."""
    return lambda name: write_checkpoint(tmp_path / name, CONFIGS[name], weights(CONFIGS[name]))


@pytest.fixture(scope="session")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint "legacy"; do not modify."""
    config = CONFIGS["legacy"]
    return write_checkpoint(tmp_path_factory.mktemp("legacy"), config, weights(config))
