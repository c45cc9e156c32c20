"""The program `magmax` and its registry of commands."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from magmax_jax.cli.command import Command
from magmax_jax.cli.main import main
from magmax_jax.errors import Program, UserError
from magmax_jax.registry import COMMANDS

ROOT = Path(__file__).parents[2]
MINE = """
import threading
import time

from magmax_jax.cli.command import Command
from magmax_jax.cli.main import launch
from magmax_jax.errors import Program
from magmax_jax.registry import COMMANDS


def greet(argv, program):
    print(f"hello {argv[0]} from {program.line('greet')}", flush=True)
    if argv[0] == "thread":
        threading.Thread(target=time.sleep, args=(60,)).start()


COMMANDS.register("greet", Command("Says hello.", greet, abandons_threads=True))
launch(program=Program("python mine.py "))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Runs a user's own program, which adds a command."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*words):
        command = [sys.executable, "mine.py", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    return run


def test_a_users_own_command_is_listed_and_runs_like_the_bundled_ones(mine):
    listed = mine("--help")
    assert listed.returncode == 0 and "greet     Says hello." in listed.stdout
    assert "usage: python mine.py COMMAND" in listed.stdout
    ended = mine("greet", "you")
    assert (ended.returncode, ended.stdout) == (0, "hello you from python mine.py greet\n")
    assert "usage: python mine.py run PRESET" in mine("run", "--help").stdout
    unknown = mine("grete")
    assert unknown.returncode == 2 and unknown.stderr.endswith("doctor, greet\n")


def test_a_closed_pipe_ends_the_program_quietly(tmp_path):
    """As in `magmax --help | head`."""
    for words in (["--help"], ["inspect", str(ROOT / "experiments" / "assets" / "tiny-clip")]):
        command = [sys.executable, "-m", "magmax_jax", *words]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.close()
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (128 + signal.SIGPIPE, "")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["experiments.pretrain_tiny_clip", "benchmarks.merge"])
def test_a_closed_pipe_ends_other_programs_quietly(module):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", module, "--help"]
    ended = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


def shell(line):
    return subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_stdout_output_is_dropped(closed):
    ended = shell(f"{sys.executable} -m magmax_jax --help {closed}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage") == (closed == "2>&-")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_unwritable_output_is_an_error():
    ended = shell(f"{sys.executable} -m magmax_jax --help > /dev/full")
    assert ended.returncode == 2
    assert ended.stderr.endswith(": No space left on device\n") and ended.stderr.count("\n") == 1


def test_abandoned_threads_are_not_waited_for(mine):
    assert mine("greet", "thread").stdout.startswith("hello thread")


def test_a_command_gets_its_arguments_and_the_program(capsys):
    given = []

    def command(argv, program):
        given.append((argv, program))
        raise UserError("no luck", command=("luck", "--more"))

    program = Program("python -m there.")
    COMMANDS.register("luck", Command("Tries.", command))
    try:
        assert main(["luck", "a", "--b"], program) == 2
    finally:
        COMMANDS.unregister("luck")
    assert given == [(["a", "--b"], program)]
    assert capsys.readouterr().err == "error: no luck: run python -m there.luck --more\n"
