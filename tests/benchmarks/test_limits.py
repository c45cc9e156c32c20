"""How short calls are timed, and the fastest product."""

import jax.numpy as jnp
import pytest

from benchmarks import limits
from benchmarks.contenders import take_turns


class Clock:
    """Time passes only during a call and during a wait."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def call(self) -> None:
        self.now += 0.001

    def wait(self, result: object) -> None:
        self.now += 0.01


def test_short_calls_are_queued_and_waited_for_once(monkeypatch):
    """Enough calls to fill 50 ms with the wait: 40 of 1 ms and one of 10 ms, or a few more."""
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr("jax.block_until_ready", clock.wait)
    taken = limits.seconds(clock.call, 3)
    assert len(taken) == 3 and taken[0] == pytest.approx(taken[2])
    assert 0.001 + 0.01 / 100 < taken[0] <= 0.001 + 0.01 / 40


def test_an_in_place_call_continues_from_its_last_result():
    step = limits.in_place(lambda x: x + 1, jnp.zeros(()))
    step()
    assert float(step()) == 2


@pytest.mark.slow
def test_the_limit_is_measured_in_every_turn():
    limit = limits.matmul("float32", "cpu", sides=(64, 128))
    take_turns([limit], repeats=3)
    assert len(limit.calls) == 3 and limit.median("flops") > 0
    limit = limits.matmul("no number", "cpu")
    take_turns([limit], repeats=1)
    assert limit.failure.startswith("failed: TypeError")
