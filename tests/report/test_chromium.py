"""The page as rendered by a browser."""

import time
from collections.abc import Iterator

import pytest
from PIL import Image

from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.report.items import percent
from magmax_jax.report.runs import Run
from magmax_jax.report.style import DARK, SURFACE
from magmax_jax.report.write import build
from tests.report.chromium import PROGRAM, Chromium
from tests.report.made_up import config, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on the PATH"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1200, 1280])
def test_a_page_renders_without_errors_requests_or_overflow(browser, made, tmp_path, width, scheme):
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


def test_figures_follow_the_pages_dark_mode(browser, made, tmp_path):
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


def wider_than_shown(browser) -> list[str]:
    return browser.evaluate(
        "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > "
        "box.clientWidth).map((box) => box.parentElement.id)"
    )


def test_tables_fit_at_1200_pixels(browser, made, tmp_path):
    setting = [config(2, seed, sequential) for seed in (5, 6) for sequential in (True, False)]
    runs = [Run(write(tmp_path / str(i), c, rows_only=True), c) for i, c in enumerate(setting)]
    for page in (made.out / "index.html", build(runs, tmp_path / "out")):
        browser.open(page, 1200)
        assert wider_than_shown(browser) == []
        browser.open(page, 360)
        assert "measures-agnostic" in wider_than_shown(browser)


def test_any_model_can_be_chosen(browser, made):
    browser.open(made.out / "index.html", 1280)

    def choose(box: str, label: str) -> None:
        browser.evaluate(
            f"(select => {{ select.value = '{label}'; select.dispatchEvent(new Event('change')) }})"
            f"(document.querySelector('#{box} select'))"
        )

    def shown(box: str) -> list[list[str]]:
        return browser.evaluate(
            f"[...document.querySelectorAll('#{box} tbody tr')].map((row) => "
            "[...row.cells].map((cell) => cell.textContent))"
        )

    total = made.run.counts("zero_shot")["total"].sum((0, 1))
    names = made.run.class_names
    before = {box: shown(box) for box in ("classes-sequential", "confusions-sequential")}
    for label in ("average@1", "zero_shot", "max_magnitude@0.5"):
        counts = made.run.counts(label)
        choose("classes-sequential", label)
        head = browser.evaluate("document.querySelector('#classes-sequential .over').textContent")
        assert ("zero-shot" if label == "zero_shot" else label) in head
        found = {row[0]: row[3:5] for row in shown("classes-sequential")}
        for place, name in enumerate(names):
            right = [counts[p].sum((0, 1))[place] / total[place] for p in ("agnostic", "aware")]
            assert found[name] == [percent(value) for value in right]
        accuracies = [float(row[3]) for row in shown("classes-sequential")]
        assert accuracies == sorted(accuracies)  # worst first
        choose("confusions-sequential", label)
        matrix = as_matrix(counts["confusions"], len(names))
        for row, line in zip(matrix, shown("confusions-sequential"), strict=True):
            assert line[1:] == [percent(n / row.sum()) if n else "" for n in row]
    assert shown("confusions-sequential") == before["confusions-sequential"]
    assert sorted(shown("classes-sequential")) == sorted(before["classes-sequential"])
    choose("matrices-sequential-aware", "zero_shot")
    assert [row[1:] for row in shown("matrices-sequential-aware")][1:] == [[""] * 3] * 3
    assert [event for event in browser.events if event[0] == "Runtime.exceptionThrown"] == []


def test_clicking_a_header_sorts_the_table(browser, made):
    browser.open(made.out / "index.html", 1280)
    table = "document.querySelector('#classes-sequential table')"
    head = f"[...{table}.tHead.rows].at(-1).cells[3]"
    values = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[3].textContent))"
    browser.evaluate(f"{head}.querySelector('button').focus()")
    for order in ("descending", "ascending"):
        # The keyboard works too.
        for kind in ("keyDown", "keyUp"):
            browser("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
        assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == order
        shown = browser.evaluate(values)
        assert shown == sorted(shown, reverse=order == "descending") and len(shown) == 9


def test_dashes_sort_last_in_both_orders(browser, made):
    browser.open(made.out / "index.html", 1280)
    table = "document.querySelector('#measures-agnostic table')"
    for _ in range(2):
        browser.evaluate(f"[...{table}.tHead.rows].at(-1).cells[5].querySelector('button').click()")
        last = browser.evaluate(f"[...{table}.tBodies[0].rows].at(-1).cells[5].textContent")
        assert last == "\N{EN DASH}"


def test_csv_files_can_be_downloaded(browser, made, tmp_path):
    browser.open(made.out / "index.html", 1280)
    browser("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.evaluate("document.querySelector('#loss .csv').click()")
    file, wanted = tmp_path / "loss.csv", (made.out / "data" / "loss.csv").read_bytes()
    until = time.monotonic() + 30
    while not (file.exists() and file.read_bytes() == wanted):
        assert time.monotonic() < until, file.exists()
        browser.evaluate("0")
