"""The site is built without a warning, and its pages load nothing from elsewhere."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import PAGES, ROOT

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("MAGMAX_TESTS_DOCS", sys.executable)
"""An interpreter with requirements-docs.txt."""


def has_mkdocs() -> bool:
    return not subprocess.run(
        [PYTHON, "-c", "import material, mkdocstrings"], capture_output=True
    ).returncode


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not has_mkdocs():
        pytest.skip(
            f"{PYTHON} lacks requirements-docs.txt: set MAGMAX_TESTS_DOCS to one that has it"
        )
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [PYTHON, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # Material's note about its own future
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stderr
    return out


def test_every_page_is_built(site):
    pages = [page for page in PAGES if page != "README.md"]
    names = [page.removeprefix("docs/").replace(".md", ".html") for page in pages]
    assert [name for name in names if not (site / name).exists()] == []


def test_pages_load_nothing_from_elsewhere(site):
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(https?:)?//|<link[^>]+stylesheet[^>]+//"
    )
    found = {page.name for page in site.rglob("*.html") if loads.search(page.read_text())}
    assert found == set()
    styles = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert not re.search(r"url\(\"?(https?:)?//|@import", styles)


def test_the_functions_are_described(site):
    page = (site / "api" / "merging.html").read_text()
    assert (
        'id="magmax_jax.merging.merge.merge"' in page and "Task vectors are always float32" in page
    )
