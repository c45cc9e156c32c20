"""A command reads every file of a run once, whatever it shows, and computes nothing twice."""

import io
from collections import Counter
from pathlib import Path

import pytest

from magmax_jax.cli import run_status, table
from magmax_jax.cli.results import Results, _compared
from magmax_jax.report import paper_table
from magmax_jax.report.recipes.page import validation_page
from tests.report import swept_runs

RUNS = 6


@pytest.fixture
def folder(tmp_path) -> Path:
    swept_runs.write_all(tmp_path)
    return tmp_path


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """Number of times that each file is opened."""
    found: Counter[str] = Counter()
    opening = io.open

    def counted(file, *args, **options):
        found[Path(file).name if isinstance(file, (str, Path)) else ""] += 1
        return opening(file, *args, **options)

    monkeypatch.setattr(io, "open", counted)
    return found


FILES = ("config.json", "results.jsonl", "sweep.jsonl", "about.json", "metrics.jsonl")


@pytest.mark.parametrize("metric", ["last", "forgetting", "intransigence"])
def test_a_table_reads_each_file_once(folder, reads, capsys, metric):
    table.main([str(folder), "--metric", metric])
    assert {name: reads[name] for name in FILES if reads[name] > RUNS} == {}
    assert reads["results.jsonl"] == RUNS


def test_a_comparison_reads_each_file_once(folder, reads):
    assert validation_page(_compared(Results((folder,))))
    assert {name: reads[name] for name in FILES if reads[name] > RUNS} == {}
    assert reads["sweep.jsonl"] == RUNS


def test_settings_are_looked_at_a_fixed_number_of_times_each(folder, monkeypatch):
    """Of twice as many runs twice as often."""
    calls: Counter[str] = Counter()
    for name in ("setting_of", "fields"):
        whole = getattr(paper_table, name)
        monkeypatch.setattr(
            paper_table, name, lambda *a, n=name, f=whole: calls.update([n]) or f(*a)
        )
    runs, _ = paper_table.find_runs([folder])
    counts = []
    for some in (runs[::2], runs):
        calls.clear()
        paper_table.columns(some, "intransigence", None)
        counts.append(calls["setting_of"])
    assert counts[1] == 2 * counts[0]


def test_accuracies_of_a_watched_run_are_computed_anew_only_if_there_are_new_rows(
    folder, monkeypatch
):
    calls = []
    whole = run_status.histories
    monkeypatch.setattr(run_status, "histories", lambda *a: calls.append(a) or whole(*a))
    follower = run_status.RunFollower(folder / "cifar" / "1")
    first = follower.look(1.0)
    computed = len(calls)
    assert computed and follower.look(2.0).agnostic is first.agnostic and len(calls) == computed
    with (folder / "cifar" / "1" / "results.jsonl").open("a") as file:
        file.write((folder / "cifar" / "1" / "results.jsonl").read_text().splitlines()[0] + "\n")
    follower.look(3.0)
    assert len(calls) > computed
