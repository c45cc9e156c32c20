"""The benchmark of EWC's Fisher at its smallest: what it reports, not how fast it is."""

import pytest

from benchmarks.contenders import ROOT, Served
from benchmarks.fisher import main, rows
from tests.benchmarks.test_train import cells


def test_a_fisher_is_measured_in_steps_of_its_own_build():
    def ended(name: str, seconds: float) -> Served:
        labels = {"build": name.partition(":")[0]}
        one = Served(name=name, function="", settings={}, labels=labels)
        one.calls.append({"seconds": seconds})
        return one

    field = [
        ended("ours: training step", 2.0), ended("before: training step", 4.0),
        ended("ours: Fisher, empirical", 3.0), ended("before: Fisher, empirical", 12.0),
    ]  # fmt: skip
    _, *found = cells(rows(field))
    assert [line[2:4] for line in found] == [
        ["1.00", "1.00"], ["1.00", "2.00"], ["1.50", "1.00"], ["3.00", "4.00"],
    ]  # fmt: skip


@pytest.mark.slow
def test_builds_run_round_robin(tmp_path):
    output = tmp_path / "fisher.md"
    flags = "--size tiny --batch-size 4 --repeats 1".split()
    assert main([*flags, "--before", str(ROOT), "--output", str(output)]) == 0
    _, *found = cells(output.read_text())
    assert [line[0] for line in found] == [
        "ours: training step", "before: training step",
        "ours: Fisher, empirical", "before: Fisher, empirical",
    ]  # fmt: skip
    assert all(float(line[1]) > 0 and line[2] and line[3] for line in found)
