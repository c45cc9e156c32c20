"""Contenders that take turns, their failures included."""

import sys
import textwrap

import pytest

from benchmarks.turns import Contestant, take_turns

COUNTING = """
    from benchmarks.turns import Prepared, serve

    def prepare(settings):
        calls = []
        print("this goes to stderr")
        return Prepared({"given": settings}, lambda: calls.append(1), lambda: {"calls": len(calls)})

    serve(prepare)
"""


def contestant(name: str, program: str, **settings) -> Contestant:
    return Contestant(name, [sys.executable, "-c", textwrap.dedent(program)], settings)


def test_each_is_prepared_once_and_called_in_turn():
    order = []
    field = [contestant(name, COUNTING, size=3) for name in "ab"]
    done = take_turns(field, 2, lambda one: order.append(one.name))
    assert order == ["a", "b", "a", "b"]
    for one in done:
        assert one.failure is None and len(one.seconds) == 2 and min(one.seconds) >= 0
        # The first of every turn does not count.
        assert one.facts == {"given": {"size": 3}, "calls": 4}


@pytest.mark.parametrize(("repeats", "calls"), [(3, 4), (0, 1)])
def test_one_alone_waits_for_nobody_and_is_warmed_once(repeats, calls):
    (one,) = take_turns([contestant("a", COUNTING)], repeats)
    assert len(one.seconds) == repeats and one.facts["calls"] == calls


@pytest.mark.parametrize("when", ["prepare", "call"])
def test_one_that_fails_is_told_and_the_others_go_on(when):
    failing = """
        import os
        from benchmarks.turns import Prepared, serve

        def fail():
            raise MemoryError("no room for it")

        serve(lambda settings: fail() if settings["when"] == "prepare" else Prepared({}, fail))
    """
    bad, good = take_turns(
        [contestant("bad", failing, when=when), contestant("good", COUNTING)], repeats=2
    )
    assert bad.failure == "MemoryError: no room for it" and bad.seconds == []
    assert good.failure is None and len(good.seconds) == 2


def test_nothing_is_left_of_those_that_are_interrupted():
    def interrupt(one: Contestant) -> None:
        raise KeyboardInterrupt

    field = [contestant("a", COUNTING)]
    with pytest.raises(KeyboardInterrupt):
        take_turns(field, 1, interrupt)
    assert field[0]._process.returncode is not None


def test_nothing_is_left_of_one_that_is_interrupted_while_it_is_prepared(monkeypatch):
    def interrupt(self) -> dict:
        raise KeyboardInterrupt

    monkeypatch.setattr(Contestant, "_answer", interrupt)
    one = contestant("a", COUNTING)
    with pytest.raises(KeyboardInterrupt):
        take_turns([one], 1)
    assert one._process.returncode is not None


@pytest.mark.parametrize(
    ("program", "limit", "said"),
    [
        ("print('hello', flush=True); input(); input()", 60, "its answer is no JSON: 'hello'"),
        ("import time; time.sleep(100)", 0.5, "> 0.5 s"),
    ],
)
def test_one_that_answers_nonsense_or_too_late_takes_no_further_part(program, limit, said):
    one = contestant("a", program)
    one.limit = limit
    take_turns([one], 2)
    assert one.failure == said and one.seconds == [] and one._process.returncode is not None
