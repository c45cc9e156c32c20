"""`python -m experiments.report`: which runs, which folder, and every error."""

import subprocess
import sys
from pathlib import Path

import pytest

from magmax_jax.cli.report import main
from magmax_jax.errors import exit_code
from magmax_jax.report import page
from magmax_jax.report import write as building
from magmax_jax.report.render import Picture
from tests.report.made_up import config, write

SMALL = config(tasks=2, merges=())


@pytest.fixture
def quick(monkeypatch) -> None:
    """Skips drawing figures."""
    monkeypatch.setattr(page, "render", lambda figure: Picture(b"<svg/>", b"png", (300, 200)))


@pytest.fixture
def runs(tmp_path) -> Path:
    write(tmp_path / "runs" / "a", SMALL, rows_only=True)
    write(tmp_path / "runs" / "deep" / "b", config(2, sequential=False, merges=()), rows_only=True)
    return tmp_path / "runs"


def call(*argv) -> int:
    return exit_code(lambda: main([str(word) for word in argv]))


def test_a_runs_report_is_written_inside_it(runs, quick, capsys):
    picture = runs / "a" / "report" / "accuracy.png"
    picture.parent.mkdir()
    picture.write_bytes(b"the run's own")
    assert call(runs / "a") == 0
    assert f"{runs / 'a' / 'report' / 'index.html'}: 1 run" in capsys.readouterr().out
    assert picture.read_bytes() == b"the run's own"
    assert {f.name for f in picture.parent.iterdir()} == building.OURS


def test_the_report_of_a_folder_is_written_inside_it_and_again(runs, quick, capsys):
    for _ in range(2):
        assert call(runs) == 0
        assert "2 runs" in capsys.readouterr().out
    assert "independent" in (runs / "report" / "index.html").read_text()
    assert [f.name for f in runs.iterdir() if f.name.startswith(".")] == []


def test_reports_of_several_runs_go_to_their_parent(runs, quick, monkeypatch, tmp_path, capsys):
    for here, shown in (
        (tmp_path, Path("runs", "report")),
        (tmp_path / "elsewhere", tmp_path / "runs" / "report"),
    ):
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        assert call(runs / "a", runs / "deep" / "b") == 0
        assert capsys.readouterr().out.startswith(f"{shown / 'index.html'}: 2 runs")
    assert (runs / "report" / "index.html").is_file() and not list(here.iterdir())
    assert call(runs, runs / "a") == 0
    assert capsys.readouterr().out.startswith(f"{runs / 'report' / 'index.html'}: 2 runs")
    assert call(runs / "a", "/proc") == 2
    assert "share no folder: name the report's directory with --out" in capsys.readouterr().err
    assert call(runs / "a", runs / "a", "--out", tmp_path / "there") == 0
    assert (tmp_path / "there" / "index.html").is_file()


def test_an_interruption_leaves_the_old_report(runs, quick, monkeypatch):
    assert call(runs / "a") == 0
    out = runs / "a" / "report"
    before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(building.shutil, "copy2", interrupted)
    assert call(runs / "a") == 130
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == before
    assert sorted(f.name for f in (runs / "a").iterdir() if f.name.startswith(".")) == []


def nothing(folder: Path) -> list:
    return []


def missing_folder(folder: Path) -> list:
    return [folder / "nowhere"]


def folder_without_run(folder: Path) -> list:
    (folder / "empty").mkdir()
    return [folder / "empty"]


def run_without_rows(folder: Path) -> list:
    path = write(folder / "run", SMALL, rows_only=True)
    (path / "results.jsonl").write_text("")
    return [path]


def other_things(folder: Path) -> list:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.tex").write_text("years of work")
    return [write(folder / "run", SMALL, rows_only=True), "--out", folder / "thesis"]


def a_file(folder: Path) -> list:
    (folder / "file").write_text("")
    return [write(folder / "run", SMALL, rows_only=True), "--out", folder / "file"]


def below_a_file(folder: Path) -> list:
    (folder / "file").write_text("")
    return [write(folder / "run", SMALL, rows_only=True), "--out", folder / "file" / "report"]


MISTAKES = {
    nothing: "no RUNS are given",
    missing_folder: "there is no such folder",
    folder_without_run: "there is no run",
    run_without_rows: "nothing is evaluated yet",
    other_things: "is not empty, and what it holds is not a report",
    a_file: "is a file",
    below_a_file: "cannot be written",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_invalid_input_gives_a_one_sentence_error(mistake, quick, tmp_path, capsys):
    assert call(*mistake(tmp_path)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and MISTAKES[mistake] in err
    kept = tmp_path / "thesis" / "chapter.tex"
    assert not kept.parent.exists() or kept.read_text() == "years of work"


def test_unreadable_runs_are_named(runs, quick, capsys):
    (runs / "bad").mkdir()
    (runs / "bad" / "config.json").write_text("{")
    (runs / "bad" / "results.jsonl").write_text("")
    assert call(runs) == 0
    assert "left out" in capsys.readouterr().err


def test_neither_jax_nor_a_data_set_is_loaded():
    program = (
        "import sys, experiments.report, magmax_jax.report.write, magmax_jax.report.page\n"
        "print([m for m in ('jax', 'flax', 'matplotlib.pyplot', 'grain') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
