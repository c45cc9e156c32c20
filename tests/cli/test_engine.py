"""How launchers start JAX: the compilation cache and the other processes."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from magmax_jax.api.compilation_cache import MIN_COMPILE_TIME, default_cache
from magmax_jax.cli.engine import Engine, bind_address
from magmax_jax.cli.run import parse
from magmax_jax.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls_to_jax(monkeypatch) -> list:
    """Records JAX's configuration calls without executing them."""
    calls = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: calls.append((name, value)))
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *where, **options: calls.append(where)
    )
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # restored afterwards
    return calls


def test_programs_are_cached_where_jax_or_the_user_says(monkeypatch, tmp_path, calls_to_jax):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "magmax_jax" / "xla"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/there")
    assert parse(["quickstart"]).engine.cache == default_cache() == Path("/there")
    for flags in ([], ["--cache", "/here"], ["--cache", "None"]):
        parse(["quickstart", *flags]).engine.start()
    name = "jax_compilation_cache_dir"
    assert [call for call in calls_to_jax if call[0] == name] == [
        (name, "/there"), (name, "/here"), (name, None),
    ]  # fmt: skip


def test_every_program_is_cached_unless_a_minimum_time_is_set(monkeypatch, calls_to_jax):
    monkeypatch.delenv(MIN_COMPILE_TIME.upper(), raising=False)
    Engine().start()
    assert (MIN_COMPILE_TIME, 0.0) in calls_to_jax
    calls_to_jax.clear()
    monkeypatch.setenv(MIN_COMPILE_TIME.upper(), "5")
    Engine().start()
    assert MIN_COMPILE_TIME not in dict(calls_to_jax)


def test_a_second_process_compiles_nothing(tmp_path):
    """Programs that compile in under a second are cached too, and results are the same."""
    program = (
        "import sys, jax\n"
        "from pathlib import Path\n"
        "from magmax_jax.cli.engine import Engine\n"
        "found = []\n"
        "jax.monitoring.register_event_listener(lambda name, **_: found.append(name))\n"
        "Engine(Path(sys.argv[1])).start()\n"
        "print(jax.jit(lambda x: jax.numpy.sin(x).sum())(jax.numpy.arange(1000.0)))\n"
        "print(*sorted({name.rsplit('/')[-1] for name in found} & {'cache_hits', 'cache_misses'}))"
    )
    env = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "true"}
    env.pop(MIN_COMPILE_TIME.upper(), None)
    command = [sys.executable, "-c", program, str(tmp_path)]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env) for _ in range(2)
    )
    assert first.stdout.splitlines()[1] == "cache_misses", first.stderr
    assert second.stdout.splitlines() == [first.stdout.splitlines()[0], "cache_hits"]


def test_processes_connect_at_an_address_or_as_the_cluster_says(calls_to_jax):
    Engine(None, distributed=True).start()
    flags = "--distributed --coordinator host:1 --processes 4 --process 3 --cache None"
    parse(["quickstart", *flags.split()]).engine.start()
    met = [call for call in calls_to_jax if len(call) == 3]
    assert met == [(None, None, None), ("host:1", 4, 3)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--distributed --process 1", "go together: give all three"),
        ("--coordinator host:1 --processes 2 --process 1", "need --distributed"),
        ("--distributed --coordinator host:1 --processes 2 --process 2", "it is one of 0 to 1"),
    ],
)
def test_half_an_address_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse(["quickstart", *flags.split()])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("coordinator_address should be defined."), "finds no cluster .*defined"),
        (RuntimeError("timed out"), "cannot reach the other processes .timed out"),
    ],
)
def test_a_missing_cluster_gives_a_one_sentence_error(monkeypatch, calls_to_jax, error, message):
    def fail(*where, **options):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match=message):
        Engine(None, distributed=True).start()


def test_the_coordinator_listens_on_the_given_address():
    assert bind_address("127.0.0.1:1234") == "127.0.0.1:1234"
    assert bind_address("localhost:1234") == "localhost:1234"
    for elsewhere in (None, "some-host:1234", "192.0.2.1:1234"):  # a name, not a local address
        assert bind_address(elsewhere) is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_on_loopback_it_is_unreachable_from_other_machines():
    """By itself, JAX would listen on every interface."""
    program = (
        "import socket\n"
        "from pathlib import Path\n"
        "from magmax_jax.cli.engine import Engine\n"
        "with socket.socket() as free:\n"
        "    free.bind(('127.0.0.1', 0))\n"
        "    port = free.getsockname()[1]\n"
        "Engine(None, True, f'127.0.0.1:{port}', 1, 0).start()\n"
        "tables = [Path(f'/proc/net/{kind}') for kind in ('tcp', 'tcp6')]\n"
        "lines = [line.split() for t in tables if t.exists() for line in t.open()]\n"
        "listening = [line[1] for line in lines if line[3] == '0A']\n"
        "print([where for where in listening if where.endswith(f':{port:04X}')])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    (where,) = ast.literal_eval(shown.stdout.splitlines()[-1])
    assert where.startswith(("0100007F:", "0000000000000000FFFF00000100007F:"))
