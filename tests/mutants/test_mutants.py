"""Corrupted files of every kind are refused in one sentence or read as they say; nothing else."""

import os
import random
import signal

import numpy as np
import pytest
from safetensors.numpy import save

from tests.mutants.apart import outcomes
from tests.mutants.kinds import KINDS
from tests.mutants.trial import GOOD, contents, tried

FEW, MANY = 20, 210
"""Mutants per kind: in every test run, and in the slow one, which makes 9,500 in total; fewer of
the kinds that take long (`Kind.cost`)."""
IN_PROCESS = [name for name, kind in KINDS.items() if not kind.native]


def check(kind, folder, seeds) -> None:
    kind.make(folder)
    kind.read(folder)  # imports what it needs and reads a valid file
    honest = contents(folder)
    outcomes = {seed: tried(kind, folder, seed) for seed in seeds}
    faults = {seed: found for seed, found in outcomes.items() if found.what not in GOOD}
    assert not faults
    assert contents(folder) == honest
    changed = [found for found in outcomes.values() if found.what != "same bytes"]
    assert len(changed) > len(outcomes) / 2


@pytest.mark.parametrize("name", IN_PROCESS)
def test_corrupted_files_are_refused_in_a_sentence_or_read_correctly(name, tmp_path):
    check(KINDS[name], tmp_path, range(max(1, FEW // KINDS[name].cost)))


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PROCESS)
def test_thousands_of_corrupted_files(name, tmp_path):
    check(KINDS[name], tmp_path, range(1_000, 1_000 + MANY // KINDS[name].cost))


def test_a_reader_without_checks_is_detected(tmp_path):
    """The trial itself notices a wrong number, an unhandled error, and unbounded memory use."""
    kind = KINDS["safetensors"]
    kind.make(tmp_path)

    def flipped(data, draw: random.Random) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    def hungry(folder):
        return bytearray(200 << 20)

    accepts = kind._replace(mutate=flipped, agrees=lambda folder, found: False)
    crashes = kind._replace(mutate=flipped, read=lambda folder: [][0])
    takes = kind._replace(mutate=flipped, read=hungry, agrees=None)
    found = [tried(each, tmp_path, 0).what for each in (accepts, crashes, takes)]
    assert found == ["wrong", "traceback", "memory"]


@pytest.mark.slow
def test_a_mutant_that_ends_its_process_is_a_fault(monkeypatch):
    """The processes of `python -m tests.mutants` survive it, and the next seeds are tried."""
    honest = KINDS["safetensors"]

    def deadly(folder):
        found = honest.read(folder)
        if any(folder.glob("model.safetensors")) and len(found) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def without_a_tensor(data, draw: random.Random) -> bytes:
        return save({"a": np.ones(draw.choice((1, 2)), np.float32)})

    monkeypatch.setitem(KINDS, "deadly", honest._replace(read=deadly, mutate=without_a_tensor))
    found = [(seed, outcome.what) for seed, outcome in outcomes("deadly", 3, 6)]
    assert found == [(3, "crash"), (4, "crash"), (5, "crash")]
