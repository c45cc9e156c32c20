"""How launchers start JAX: the folder of compiled programs, and the other processes."""

from pathlib import Path

import jax
import pytest

from experiments.engine import Engine, default_cache
from experiments.run import parse
from magmax_jax.errors import UserError


@pytest.fixture
def told(monkeypatch) -> list:
    """What JAX was told, which is not carried out."""
    calls = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: calls.append((name, value)))
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *where, **options: calls.append(where)
    )
    return calls


def test_programs_are_kept_where_jax_or_the_user_says(monkeypatch, tmp_path, told):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "magmax_jax" / "xla"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/there")
    assert parse(["quickstart"]).engine.cache == default_cache() == Path("/there")
    for flags in ([], ["--cache", "/here"], ["--cache", "None"]):
        parse(["quickstart", *flags]).engine.start()
    name = "jax_compilation_cache_dir"
    assert told == [(name, "/there"), (name, "/here"), (name, None)]


def test_other_processes_are_met_at_an_address_or_as_the_cluster_says(told):
    Engine(None, distributed=True).start()
    flags = "--distributed --coordinator host:1 --processes 4 --process 3 --cache None"
    parse(["quickstart", *flags.split()]).engine.start()
    assert told[1::2] == [(None, None, None), ("host:1", 4, 3)]


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
        (RuntimeError("timed out"), "does not meet the others .timed out"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_sentence(monkeypatch, told, error, message):
    def fail(*where, **options):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match=message):
        Engine(None, distributed=True).start()
