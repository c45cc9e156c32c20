"""The start-up benchmark: what it tells, not how long anything takes."""

import json
import sys
import time

import jax
import pytest

from benchmarks.first_step import PARTS
from benchmarks.milestones import milestones
from benchmarks.output import Output
from benchmarks.processes import CACHES, STEPPED, Bench
from benchmarks.starts import HELP_GOAL, Start, starts
from benchmarks.startup import main
from benchmarks.times import ALL, Times, part_rows, start_rows
from tests.benchmarks.test_merge import cells


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path, 1, 300, Times(Output(None, {})))


def test_it_tells_starts_their_goals_and_a_run(tmp_path):
    output = tmp_path / "startup.md"
    only = ["limit: python, nothing else", "ours: magmax --help"]
    flags = ["--repeats", "2", "--run", "quickstart --help", "--output", str(output)]
    main([*flags, "--only", *only, "--steps"])
    table = cells(output.read_text())
    assert float(table[only[0]][0]) > 0 and table[only[0]][2:] == ["", ""]
    assert table[only[1]][2] == "1" and table[only[1]][3] in ("yes", "no")
    assert len(table[only[1]][1].split()) == 2
    assert all(float(cell) > 0 for cell in table[ALL][:2])
    assert table["the first step is recorded"][:2] == ["", ""]  # --help takes none
    first, *rows = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "cores" in first["environment"]
    whats = [row["what"] for row in rows]
    assert whats == [*only * 2, *["run, cold", "run, warm"] * 2]
    assert all(row["outcome"] == "ok" for row in rows)


def test_a_peer_that_is_not_there_is_told_with_the_reason(bench):
    start = Start("peer: none", ("none",), needs="none")
    assert (
        start_rows([start], {"peer: none": "no module"}, bench.times)[0][1] == "absent: no module"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--peers", "/there/is/none"], "/there/is/none is no python that can be run"),
        (["--only", "nobody"], "--only: nothing is called nobody"),
        (["--repeats", "0"], "--repeats: 0 is not positive"),
    ],
)
def test_mistakes_are_told_in_a_sentence(flags, said, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_command_that_fails_meets_no_goal_and_has_no_median(bench):
    well = Start("well", (sys.executable, "-c", "pass"), goal=300)
    slow = Start("slow", (sys.executable, "-c", "pass"), goal=0)
    ill = Start("ill", (sys.executable, "-c", "raise RuntimeError('no')"), goal=300)
    bench.time_starts([well, slow, ill])
    rows = {row[0]: row[1:] for row in start_rows([well, slow, ill], {}, bench.times)}
    assert rows["well"][-1] == "yes" and rows["slow"][-1] == rows["ill"][-1] == "no"
    assert rows["ill"][0] == "failed: RuntimeError: no"


def test_every_command_of_ours_has_a_goal_and_its_own_name(tmp_path):
    found = starts(tmp_path / "python")
    assert len({start.name for start in found}) == len(found)
    helps = [start for start in found if start.name.startswith("ours") and "--help" in start.name]
    assert len(helps) == 14 and {start.goal for start in helps} == {HELP_GOAL}
    assert all((start.needs is None) == (not start.name.startswith("peer")) for start in found)


def test_milestones_are_files_with_something_in_them(tmp_path):
    files = {name: tmp_path / name for name in ("first", "second", "empty", "never")}
    with milestones(files) as reached:
        for name in ("empty", "first", "second"):
            files[name].write_text("" if name == "empty" else "x")
            deadline = time.monotonic() + 60
            while name != "empty" and name not in reached and time.monotonic() < deadline:
                time.sleep(0.001)
    assert list(reached) == ["first", "second"] and reached["first"] < reached["second"]


def test_a_first_step_has_parts_and_its_programs_are_kept(bench):
    facts = {"size": "tiny", "batch_size": 2, "dtype": "float32"}
    assert bench.time_steps(facts, None) == jax.devices()[0].device_kind
    cold, warm = (
        {part[2]: taken for part, (taken,) in bench.times.seconds.items() if part[1] == kind}
        for kind in CACHES
    )
    assert set(cold) == set(warm) == {*PARTS, STEPPED, ALL}
    assert sum(cold[part] for part in PARTS) == pytest.approx(cold[STEPPED])
    assert cold[STEPPED] < cold[ALL] and warm[STEPPED] < warm[ALL]
    kept = list((bench.work / "programs-tiny-0").glob("*-cache"))
    assert any("train_step" in file.name for file in kept)
    assert not bench.times.failures
    told = {row[0]: row[1:] for row in part_rows("tiny", CACHES, [STEPPED], bench.times)}
    assert told[STEPPED][0] == f"{cold[STEPPED]:.2f}"
