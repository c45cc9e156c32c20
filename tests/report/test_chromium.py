"""The page as a browser shows it."""

import time
from collections.abc import Iterator

import pytest
from PIL import Image

from magmax_jax.report.style import DARK, SURFACE
from tests.report.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on the PATH"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_a_page_is_shown_without_complaints_requests_and_overflow(
    browser, made, tmp_path, width, scheme
):
    page = made.out / "index.html"
    browser.open(page, width, scheme=scheme)
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in browser.events if event[0] in complaints] == []
    asked = [
        e["request"]["url"] for method, e in browser.events if method == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    with Image.open(browser.screenshot(tmp_path / "shot.png")) as shot:
        assert shot.size == (width, 900)
        colours = {c: n for n, c in shot.convert("RGB").getcolors(1 << 20)}
    surface = bytes.fromhex((SURFACE if scheme == "light" else DARK[SURFACE])[1:])
    assert len(colours) > 100 and colours[tuple(surface)] > 5_000


def test_figures_are_dark_where_the_page_is(browser, made, tmp_path):
    found = {}
    for scheme in ("light", "dark"):
        browser.open(made.out / "index.html", 1280, scheme=scheme)
        browser.evaluate("document.querySelector('figure img').scrollIntoView({block: 'center'})")
        box = browser.evaluate(
            "(({x, y, width, height}) => [x, y, x + width, y + height])"
            "(document.querySelector('figure img').getBoundingClientRect())"
        )
        with Image.open(browser.screenshot(tmp_path / f"{scheme}.png")) as shot:
            counted = shot.convert("RGB").crop(tuple(map(int, box))).getcolors(1 << 20)
        found[scheme] = max(counted)[1]
    assert found["light"] == (255, 255, 255)
    assert found["dark"] == tuple(bytes.fromhex(DARK[SURFACE][1:]))


def test_tables_are_sorted_by_the_head_that_is_pressed(browser, made):
    browser.open(made.out / "index.html", 1280)
    table = "document.querySelector('#classes-sequential table')"
    head = f"[...{table}.tHead.rows].at(-1).cells[3]"
    values = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[3].textContent))"
    browser.evaluate(f"{head}.querySelector('button').focus()")
    for order in ("descending", "ascending"):
        # The keyboard does, too.
        for kind in ("keyDown", "keyUp"):
            browser("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
        assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == order
        shown = browser.evaluate(values)
        assert shown == sorted(shown, reverse=order == "descending") and len(shown) == 9


def test_dashes_are_last_in_both_orders(browser, made):
    browser.open(made.out / "index.html", 1280)
    table = "document.querySelector('#measures-agnostic table')"
    for _ in range(2):
        browser.evaluate(f"[...{table}.tHead.rows].at(-1).cells[5].querySelector('button').click()")
        last = browser.evaluate(f"[...{table}.tBodies[0].rows].at(-1).cells[5].textContent")
        assert last == "\N{EN DASH}"


def test_csv_files_are_downloaded(browser, made, tmp_path):
    browser.open(made.out / "index.html", 1280)
    browser("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.evaluate("document.querySelector('#loss .csv').click()")
    file, wanted = tmp_path / "loss.csv", (made.out / "data" / "loss.csv").read_bytes()
    until = time.monotonic() + 30
    while not (file.exists() and file.read_bytes() == wanted):
        assert time.monotonic() < until, file.exists()
        browser.evaluate("0")
