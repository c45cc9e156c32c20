"""The page is valid and self-contained."""

import base64
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from magmax_jax.config import MethodConfig
from magmax_jax.report.groups import grouped
from magmax_jax.report.items import Column
from magmax_jax.report.page import as_csv, over
from magmax_jax.report.runs import Run, find
from magmax_jax.report.section import sections
from magmax_jax.report.write import build
from tests.report.conftest import HOSTILE
from tests.report.made_up import config, write


class Page(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, attribute: str) -> list[str]:
        return [a[attribute] for _, a in self.tags if attribute in a]


@pytest.fixture(scope="session")
def page(made) -> Page:
    return Page((made.out / "index.html").read_text())


def test_tags_are_closed_and_ids_are_unique(page):
    assert page.open == []
    ids = page.all("id")
    assert len(ids) == len(set(ids)) > 60


def test_the_table_of_contents_links_to_sections(page):
    places = [href[1:] for href in page.all("href") if href.startswith("#")]
    assert len(places) > 10 and set(places) <= set(page.all("id"))
    assert set(page.all("aria-labelledby")) <= set(page.all("id"))


def test_nothing_is_loaded_from_the_network(page, made):
    assert all(href.startswith(("#", "data:")) for href in page.all("href"))
    assert all(source.startswith("data:image/") for source in page.all("src"))
    assert not {"script", "iframe", "object"} & {tag for tag, a in page.tags if "src" in a}
    text = (made.out / "index.html").read_text()
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in page.all("content")[0]


def test_figures_have_alt_text(page):
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) > 25
    assert all(a["alt"] and int(a["width"]) > 200 and int(a["height"]) > 100 for a in pictures)


def test_csv_links_contain_the_files(page, made):
    links = [a for tag, a in page.tags if "download" in a]
    assert {a["download"] for a in links} == {f.name for f in (made.out / "data").iterdir()}
    for a in links:
        kind, _, content = a["href"].partition(";base64,")
        assert kind == "data:text/csv;charset=utf-8"
        assert base64.b64decode(content) == (made.out / "data" / a["download"]).read_bytes()


def test_names_are_escaped(page, made):
    assert HOSTILE in page.text
    assert "<b>" not in (made.out / "index.html").read_text()


def test_tables_sort_numbers_as_numbers(page):
    cells = [a for tag, a in page.tags if tag == "td"]
    assert sum("data-value" in a for a in cells) > 100
    assert all(float(a["data-value"]) is not None for a in cells if "data-value" in a)


def test_the_page_is_small(made):
    assert (made.out / "index.html").stat().st_size < 1_500_000


def test_the_same_run_gives_the_same_bytes(tmp_path):
    run = Run(
        write(tmp_path / "run", config(tasks=2, merges=()), rows_only=True),
        config(tasks=2, merges=()),
    )
    for out in ("one", "two"):
        build([run], tmp_path / out)
    files = [f.relative_to(tmp_path / "one") for f in (tmp_path / "one").rglob("*") if f.is_file()]
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), (
            file
        )


@pytest.mark.slow
def test_a_report_needs_no_jax(tmp_path):
    """Names of methods are facts of regularizers, which can be read without JAX."""
    setting = replace(config(tasks=2, merges=()), method=MethodConfig(regularizer="ewc"))
    write(tmp_path / "run", setting, rows_only=True)
    report = f"main(['report', {str(tmp_path)!r}, '--out', {str(tmp_path / 'out')!r}])"
    script = f"import sys; from magmax_jax.cli.main import main; {report}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "EWC" in (tmp_path / "out" / "index.html").read_text(), done.stderr
    imported = set(done.stdout.split())
    assert "matplotlib" in imported and not imported & {"jax", "flax", "optax"}


def said(runs: list[Run]) -> dict[str, str]:
    """Section -> its notes, for runs of one scenario."""
    [group] = grouped(runs)
    notes = {}
    for _, section in sections():
        found = section.items(group)
        notes[section.title] = " ".join(item.text for item in found if hasattr(item, "command"))
    return notes


def test_missing_data_is_explained_in_a_sentence(tmp_path):
    setting = config(tasks=2, merges=())
    notes = said([Run(write(tmp_path, setting, rows_only=True), setting)])
    assert "repeat the run" in notes["Classes"]
    assert "No scales were swept" in notes["Scales"]
    assert "none yet" in notes["Analyses"] and "analyse the run" in notes["Analyses"]
    assert notes["Pruning"] == notes["Domains"] == ""
    assert "not recorded" in notes["How to reproduce"]


def test_a_run_without_data_that_others_have_is_named(tmp_path):
    whole, half = config(tasks=2), config(tasks=2, sequential=False)
    runs = [
        Run(write(tmp_path / "a", whole), whole),
        Run(write(tmp_path / "b", half, learned=1), half),
    ]
    notes = said(runs)
    assert "No sign conflicts of independent yet" in notes["Sign conflicts"]
    assert notes["Analyses"] == ""
    assert "independent is not finished: 1 of 2 tasks" in notes["In short"]


def test_joint_training_is_the_upper_bound_and_needs_no_analysis(tmp_path):
    setting = config(tasks=2, joint=True, merges=())
    notes = said([Run(write(tmp_path, setting), setting)])
    assert notes["Analyses"] == "" and "learned one by one" in notes["Forgetting"]


def test_a_truncated_line_ends_a_file(tmp_path):
    setting = config(tasks=2, merges=())
    path = write(tmp_path / "run", setting)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"task": 2, "st')
    [run], notes = find([tmp_path])
    assert len(run.steps) == 80 and notes == []


def test_csv_has_a_column_for_every_field_and_all_digits():
    text = as_csv([{"a": 1 / 3}, {"b": 'say "x", y', "a": None}])
    assert text == 'a,b\n0.3333333333333333,\n,"say ""x"", y"\n'


def test_adjacent_columns_share_one_title():
    columns = [
        Column("m", "Model"),
        Column("a", "images", over="F"),
        Column("b", "tasks", over="F"),
    ]
    assert over(columns) == [("", 1), ("F", 2)]
