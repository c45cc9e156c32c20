"""How short calls are timed."""

import jax.numpy as jnp
import pytest

from benchmarks import limits


class Clock:
    """Time passes when a call is made, and when something is waited for."""

    def __init__(self):
        self.now, self.calls = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def call(self) -> None:
        self.calls += 1
        self.now += 0.001

    def wait(self, result: object) -> None:
        self.now += 0.01


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr(limits.jax, "block_until_ready", clock.wait)
    return clock


def test_short_calls_are_queued_and_waited_for_once(clock):
    """As many as last 50 ms with the wait: 40 of 1 ms and one of 10 ms, or a few more."""
    taken = limits.seconds(clock.call, 3)
    assert len(taken) == 3 and taken[0] == pytest.approx(taken[2])
    assert 0.001 + 0.01 / 100 < taken[0] <= 0.001 + 0.01 / 40


def test_calls_that_are_each_waited_for(clock):
    taken = limits.in_turn({"a": clock.call, "b": clock.call}, 2)
    assert taken == {"a": pytest.approx([0.011] * 2), "b": pytest.approx([0.011] * 2)}
    assert clock.calls == 2 * (1 + 2)  # one of each to compile


def test_a_call_in_place_goes_on_from_its_last_result():
    step = limits.in_place(lambda x: x + 1, jnp.zeros(()))
    assert len(limits.in_turn({"step": step}, 2)["step"]) == 2
    assert float(step()) == 4
