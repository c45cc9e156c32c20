"""A report of a run with all data, made once."""

from pathlib import Path
from typing import NamedTuple

import pytest

from magmax_jax.report.runs import Run
from magmax_jax.report.write import build
from tests.report.made_up import config, write

HOSTILE = '<b>&"x"</b> $y$'
"""A class name that would be markup or mathematics if it were not escaped."""


class Made(NamedTuple):
    """A run and its report's folder."""

    run: Run
    out: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    setting = config(tasks=3, merges=("max_magnitude", "average"))
    names = [HOSTILE, *(f"class {i}" for i in range(1, 9))]
    path = write(folder / "run", setting, names, domains=("photo", "sketch"))
    run = Run(path, setting)
    build([run], folder / "out")
    return Made(run, folder / "out")
