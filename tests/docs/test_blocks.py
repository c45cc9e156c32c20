"""Every command and program in README and docs runs, unless the page says why it does not."""

import doctest
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import PROGRAM
from magmax_jax import registry
from magmax_jax.cli.main import main
from magmax_jax.errors import MAGMAX
from tests.docs import workplace
from tests.docs.blocks import BLOCKS, Block, commands, of_magmax

pytestmark = pytest.mark.slow

INSTALLERS = {"pip"}
"""Not run: they would change the environment. `.ci/run` installs the requirements."""

RUN = [block for block in BLOCKS if block.language in ("bash", "python") and not block.reason]
PAGES = sorted({block.page for block in RUN})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("docs") / "made"
    workplace.build(place)
    return place


@pytest.fixture(autouse=True)
def own_registrations():
    """Forgets what a page has registered."""
    tables = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    before = [set(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        for name in set(table) - names:
            table.unregister(name)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page, made, tmp_path, monkeypatch):
    place = tmp_path / "place"
    shutil.copytree(made, place, symlinks=True)
    monkeypatch.chdir(place)
    names = {"__name__": "page", "directory": tmp_path / "merged"}
    for block in RUN:
        if block.page == page:
            run = run_commands if block.language == "bash" else run_python
            run(block, names)


def run_commands(block: Block, names: dict) -> None:
    for words in commands(block):
        if words[0] in INSTALLERS:
            continue
        argv = of_magmax(words)
        if argv is None:
            subprocess.run([sys.executable, *words[1:]], check=True, cwd=Path.cwd())
            continue
        try:
            code = main(argv, MAGMAX if words[0] == "magmax" else PROGRAM)
        except SystemExit as ended:  # help
            code = ended.code
        assert not code, f"{block.where}: {' '.join(words)}"


def run_python(block: Block, names: dict) -> None:
    if ">>>" not in block.text:
        exec(compile(block.text, block.where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(
        block.text, names, block.where, block.page, block.line - 1
    )
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    names.update(test.globs)
    assert result.failed == 0
