"""Contenders run round-robin, also when some fail."""

import os
import sys

import pytest

from benchmarks.contenders import Contender, Served, Whole, of_checkout, take_turns

pytestmark = pytest.mark.slow


def served(name: str, function: str = "counting", **settings: object) -> Served:
    return Served(name=name, function=f"tests.benchmarks.fakes:{function}", settings=settings)


def whole(name: str, program: str, **options: object) -> Whole:
    return Whole(name=name, command=[sys.executable, "-c", program], **options)


def test_each_is_prepared_once_and_called_round_robin():
    order = []
    field = [served(name, size=3) for name in "ab"]
    take_turns(field, 2, lambda one: order.append(one.name))
    assert order == ["a", "b", "a", "b"]
    for one in field:
        assert one.failure is None and len(one.seconds) == 2 and one.median() >= 0
        # The first call of every turn is not counted.
        assert one.facts == {"given": {"size": 3}, "calls": 4}
        assert [call["number"] for call in one.calls] == [2, 4]


@pytest.mark.parametrize(("repeats", "calls"), [(3, 4), (0, 1)])
def test_a_single_contender_never_waits_and_is_warmed_up_once(repeats, calls):
    one = served("a")
    take_turns([one], repeats)
    assert len(one.seconds) == repeats and one.facts["calls"] == calls


@pytest.mark.parametrize("when", ["prepare", "call"])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("no luck", "failed: RuntimeError: no luck"),
        ("CUDA out of memory, tried 3 GB", "failed: MemoryError: the device has no room for it"),
    ],
)
def test_a_failing_contender_is_reported_and_the_others_continue(when, error, failure):
    bad, good = served("bad", "failing", when=when, error=error), served("good")
    take_turns([bad, good], repeats=2)
    assert bad.failure == failure and bad.seconds == []
    assert good.failure is None and len(good.seconds) == 2


def test_an_absent_contender_is_left_out():
    gone, here = served("gone"), served("here")
    gone.needs = "no_such_module"
    take_turns([gone, here], repeats=1)
    assert gone.failure == "absent: ModuleNotFoundError: No module named 'no_such_module'"
    assert gone.facts == {} and here.facts["calls"] == 2


@pytest.mark.parametrize(
    ("function", "limit", "failure"),
    [
        ("silent", 60, "failed: exit status 3 without a message"),
        ("slow", 1.0, "> 1 s"),
    ],
)
def test_a_contender_that_never_answers_is_dropped(function, limit, failure):
    one = served("a", function)
    one.limit = limit
    take_turns([one], 2)
    assert one.failure == failure and one.seconds == []


def test_interrupted_contenders_leave_nothing_behind(tmp_path):
    program = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    sleeping = whole("b", f"{program}; import time; time.sleep(100)", limit=1)

    def interrupt(one: Contender) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns([sleeping], 1, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    one = served("a")
    with pytest.raises(KeyboardInterrupt):
        take_turns([one], 1, interrupt)
    assert "calls" not in one.facts  # it was not asked to end


def test_process_over_limit_is_killed_and_reported_and_not_run_again():
    hold = "import time; held = bytearray(400_000_000); time.sleep(100)"
    child = f"import subprocess as s, sys; s.run([sys.executable, '-c', {hold!r}])"
    field = [
        whole("memory", hold, memory=0.2e9),
        whole("grandchild", child, memory=0.2e9),
        whole("time", "import time; time.sleep(100)", limit=3),
        whole("error", "raise RuntimeError('no such thing')"),
        whole("fine", "held = bytearray(30_000_000); import time; time.sleep(0.2)"),
        whole("long", "import time; time.sleep(0.5)", once_over=0.4),
    ]
    take_turns(field, 2)
    memory, grandchild, time, error, fine, long = field
    assert memory.failure == grandchild.failure == "> 0.2 GB"
    assert time.failure == "> 3 s" and error.failure == "failed: RuntimeError: no such thing"
    assert [len(one.calls) for one in field] == [1, 1, 1, 1, 2, 1]
    assert fine.failure is long.failure is None
    for call in fine.calls:
        assert 30e6 < call["private"] <= call["resident"] < 100e6


def test_milestones_are_nonempty_files(tmp_path):
    files = {name: tmp_path / name for name in ("first", "second", "empty", "never")}
    program = "import pathlib, time; d = pathlib.Path('{}'); (d / 'empty').touch();"
    program += "(d / 'first').write_text('x'); time.sleep(0.3); (d / 'second').write_text('x');"
    program += "time.sleep(0.3)"
    made = []
    one = whole(
        "a", program.format(tmp_path), files=files, before=lambda: made.append(1), warmed_up=True
    )
    take_turns([one], 1)
    (call,) = one.calls
    assert made == [1, 1]  # one of the two does not count
    assert call["reached"].keys() == {"first", "second"}
    assert call["reached"]["first"] <= call["reached"]["second"] < call["seconds"]


def test_another_checkout_is_imported_and_core_seconds_are_counted(tmp_path):
    package = tmp_path / "magmax_jax"
    package.mkdir()
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    (package / "__init__.py").write_text("raise RuntimeError('the other one')")
    one = whole("other", f"{busy}import magmax_jax", variables=of_checkout(tmp_path))
    take_turns([one], 1)
    assert one.failure == "failed: RuntimeError: the other one"
    assert one.calls[0]["core_seconds"] >= 0.3
