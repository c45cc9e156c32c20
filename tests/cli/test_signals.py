"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import pathlib, signal, sys, time
from magmax_jax.cli.command import Command
from magmax_jax.cli.main import launch
from magmax_jax.io.rooms import room_beside
from magmax_jax.registry import COMMANDS

def wait(argv, program):
    with room_beside(pathlib.Path(argv[0])):
        print("ready", flush=True)
        time.sleep(60)

COMMANDS.register("wait", Command("Waits.", wait))
# A shell's background job ignores Ctrl-C, nohup ignores SIGHUP, and what they start does, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
launch()
"""


def started(*words) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_partial_output_is_removed(tmp_path, number):
    process = started(tmp_path / "out")
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == "interrupted: the same command starts it again\n"
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(tmp_path):
    process = started(tmp_path / "out", "nohup")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
