"""`magmax doctor`: text, JSON and exit codes."""

import json
import threading

import pytest

from magmax_jax.cli.main import main
from magmax_jax.doctor.check import Check, Finding, examine
from magmax_jax.registry import CHECKS, Registry


@pytest.fixture
def pretend(monkeypatch):
    """Replaces all checks by the given ones."""

    def replace(**checks):
        registry = Registry("check", {})
        for name, findings in checks.items():
            registry.register(name, Check(name.title(), findings))
        for module in ("magmax_jax.cli.doctor", "magmax_jax.doctor.check"):
            monkeypatch.setattr(f"{module}.CHECKS", registry)

    return replace


def failing():
    yield Finding("fine")
    raise OSError("disk\nmore")


def exit_of(*words: str) -> int:
    try:
        return main(["doctor", *words])
    except SystemExit as ended:
        return ended.code


def test_nothing_broken_exits_with_0(pretend, capsys):
    pretend(good=lambda: [Finding("a \x1b")], bad=lambda: [Finding("b", "warning", "do c")])
    assert exit_of() == 0
    assert capsys.readouterr().out == (
        "Good\n  ok       a \\x1b\nBad\n  warning  b\n           -> do c\n"
        "nothing is broken, 1 warning\n"
    )


def test_something_broken_exits_with_1_and_json_has_the_same(pretend, capsys):
    pretend(bad=lambda: [Finding("b", "broken", "do c"), Finding("d")])
    assert exit_of() == 1
    assert "  BROKEN   b\n           -> do c\n" in capsys.readouterr().out
    assert exit_of("--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "bad": [
            {"text": "b", "severity": "broken", "remedy": "do c"},
            {"text": "d", "severity": "ok", "remedy": ""},
        ]
    }


def test_a_check_that_fails_does_not_hide_the_others(pretend, capsys):
    pretend(odd=failing, good=lambda: [Finding("fine")])
    assert exit_of() == 0
    assert "warning  this check failed (disk)" in capsys.readouterr().out


def test_a_check_that_waits_runs_beside_the_others_and_is_shown_in_its_place(monkeypatch):
    started = threading.Event()

    def wait():
        started.set()
        return [Finding("asked")]

    registry = Registry("check", {})
    registry.register("network", Check("Network", wait, waits=True))
    registry.register("local", Check("Local", lambda: [Finding(str(started.wait(10)))]))
    monkeypatch.setattr("magmax_jax.doctor.check.CHECKS", registry)
    assert examine() == {"network": [Finding("asked")], "local": [Finding("True")]}


def test_this_machine_is_examined_by_every_check(capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code = exit_of("--json")
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(CHECKS) and all(found.values())
    findings = [finding for each in found.values() for finding in each]
    assert code == any(finding["severity"] == "broken" for finding in findings)
    assert all(finding["remedy"] or finding["severity"] == "ok" for finding in findings)
    assert not any("this check failed" in finding["text"] for finding in findings)
