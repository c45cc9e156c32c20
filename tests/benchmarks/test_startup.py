"""The start-up benchmark: what it reports, not how long anything takes."""

import json

import pytest

from benchmarks.contenders import Whole
from benchmarks.startup import (
    ALL,
    HELP_GOAL,
    MILESTONES,
    Settings,
    main,
    met,
    runs_table,
    starts,
    starts_table,
)
from tests.benchmarks.test_train import cells


@pytest.mark.slow
def test_it_reports_starts_their_goals_and_a_run(tmp_path):
    output = tmp_path / "startup.md"
    only = [
        "limit: python, nothing else",
        "ours: magmax --help",
        "ours: magmax inspect, a tiny model",
    ]
    flags = ["--repeats", "2", "--run", "quickstart --help", "--output", str(output)]
    assert main([*flags, "--only", *only]) == 0
    table = {name: row for name, *row in cells(output.read_text())}
    assert float(table[only[0]][0]) > 0 and table[only[0]][3:] == ["", ""]
    assert table[only[1]][3] == "1" and table[only[1]][4] in ("yes", "no")
    assert len(table[only[1]][2].split()) == 2 and float(table[only[1]][1]) > 0
    assert table[only[2]][3] == "0.3" and float(table[only[2]][0]) > 0
    assert all(float(cell) > 0 for cell in table[ALL][:2])
    assert table["the first step is recorded"] == [""] * 4  # --help takes none
    first, *rows = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "cores" in first["environment"]
    calls = [row["contender"] for row in rows if "repeat" in row]
    assert calls == [*only * 2, *["cold", "warm"] * 2]
    assert {row["outcome"] for row in rows if "outcome" in row} == {"ok"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--peers", "/there/is/none"], "/there/is/none is not a Python that can be run"),
        (["--only", "nobody"], "--only: nothing is named nobody"),
        (["--repeats", "0"], "--repeats: 0 is not positive"),
    ],
)
def test_invalid_input_gives_a_one_sentence_error(flags, said, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def ended(name: str, *seconds: float, failure: str | None = None, **labels: float) -> Whole:
    one = Whole(name=name, command=(), labels=labels)
    one.calls += [{"seconds": taken, "core_seconds": taken, "reached": {}} for taken in seconds]
    one.failure = failure
    return one


def test_a_command_that_fails_meets_no_goal_and_has_no_median():
    well, slow = ended("well", 1.0, goal=2), ended("slow", 3.0, goal=2)
    ill = ended("ill", 1.0, failure="failed: RuntimeError: no", goal=2)
    _, *rows = cells(starts_table([well, slow, ill]))
    assert [row[-1] for row in rows] == ["yes", "no", ""] and met(ill, 2) == "no"
    assert rows[2][1] == "failed: RuntimeError: no"


def test_runs_are_reported_up_to_each_milestone():
    cold, warm = ended("cold", 3.0, 5.0, 4.0), ended("warm", 2.0, failure="> 9 s")
    first, *_ = MILESTONES
    for call, seconds in zip(cold.calls, (1.0, 1.5, 2.0), strict=True):
        call["reached"][first] = seconds
    text = runs_table([cold, warm])
    head, *rows = cells(text)
    assert head == ["", "cold, s", "cold, all runs", "warm, all runs"]
    assert rows[0] == [first, "1.50", "1.00 1.50 2.00", ""]
    assert rows[-1] == [ALL, "4.00", "3.00 5.00 4.00", "2.00"]
    assert text.endswith("warm: > 9 s")


def test_every_command_of_ours_has_a_goal_and_its_own_name(tmp_path):
    found = starts(Settings(peers=tmp_path / "python"))
    assert len({start.name for start in found}) == len(found)
    helps = [start for start in found if start.name.startswith("ours") and "--help" in start.name]
    assert len(helps) == 14 and {start.labels["goal"] for start in helps} == {HELP_GOAL}
    assert all((start.needs is None) == (not start.name.startswith("peer")) for start in found)
