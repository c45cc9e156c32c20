"""Two processes of one run, of which one is killed: the other ends soon, and says why."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from magmax_jax.cli.lost_process import HEARTBEAT, lost_process

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import numpy as np
from jax.experimental import multihost_utils
from magmax_jax.cli.engine import Engine
Engine(None, True, sys.argv[1], 2, int(sys.argv[2])).start()
meet = lambda: multihost_utils.process_allgather(np.int32(0))
meet()
print("met", flush=True)
if sys.argv[3] == "fails":
    raise KeyError("a bug of this process alone")
if sys.argv[3] == "waits":  # as in a collective on a GPU, which raises nothing
    time.sleep(300)
while True:
    meet()
"""


def started(*does: str) -> list[subprocess.Popen]:
    """Both processes, after they have met."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(number), each],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for number, each in enumerate(does)
    ]
    for process in processes:
        assert "met\n" in iter(process.stdout.readline, ""), (
            process.stderr.read()
        )  # Gloo prints too
    return processes


@pytest.mark.slow
def test_one_sentence_instead_of_a_wait_if_the_other_process_is_killed():
    first, second = started("meets", "meets")
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 1 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("error: another process of this run ended or cannot")


@pytest.mark.slow
def test_jax_ends_a_process_that_waits_for_a_lost_one():
    """It aborts by itself, since its callback cannot call Python."""
    first, second = started("waits", "waits")
    second.send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, said = first.communicate(timeout=300)
    print(f"{time.monotonic() - began:.0f} s, with a limit of {HEARTBEAT} s")
    assert first.returncode == -signal.SIGABRT and "stopped sending heartbeats" in said, said


@pytest.mark.slow
def test_a_process_that_fails_does_not_wait_for_the_others():
    first, second = started("waits", "fails")
    _, said = second.communicate(timeout=300)
    assert second.returncode == 1 and said.rstrip().endswith("a bug of this process alone'")
    first.kill()
    first.communicate()


@pytest.mark.parametrize(
    "text",
    [
        "Gloo AllReduce failed: timeout",
        "ncclRemoteError: a peer",
        "Barrier failed because: task is set to ERROR: UNAVAILABLE: Task 1 heartbeat timeout.",
    ],
)
def test_lost_processes_are_recognised_by_jaxs_words(text):
    assert lost_process(ValueError(f"UNKNOWN: {text}")).startswith("another process of this run")
    assert lost_process(ValueError("INVALID_ARGUMENT: shapes")) == ""
