"""A module with a user's own rules in the working directory."""

import sys
from pathlib import Path

import pytest

SOURCE = '''
"""Rules of my own."""
import jax.numpy as jnp

import magmax_jax as mm

SIZE = 3


def median(k: int = 1) -> mm.MergeRule:
    """k times the entrywise median."""

    def merge(*taus):
        return k * jnp.median(jnp.stack(taus), axis=0)

    return mm.rules.collecting(
        lambda taus: mm.rules.leafwise(merge, *taus), default_scale=1.0, scope="entry"
    )


@mm.rules.register("half_sum")
def halves(part: float = 0.5) -> mm.MergeRule:
    """A streaming rule: part times the sum."""
    whole = mm.rules.task_arithmetic()

    def finalize(state):
        return mm.rules.leafwise(lambda x: part * x, whole.finalize(state))

    return whole._replace(finalize=finalize)


def powered(power) -> mm.MergeRule:
    return median(power)


def anything(*args, **kwargs):
    return mm.rules.average()


class Median:
    pass


def forgetful():
    median()


ready = median()
'''


def write(directory: Path, name: str, source: str = SOURCE) -> None:
    (directory / f"{name}.py").write_text(source)


def forget(*names: str) -> None:
    """Drops these modules, as if in a new process."""
    for name in names:
        sys.modules.pop(name, None)
    from magmax_jax.registry import RULES

    RULES.unregister("half_sum")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """`my_rules` in the working directory, which is not on `sys.path`."""
    write(tmp_path, "my_rules")
    monkeypatch.chdir(tmp_path)
    forget("my_rules")
    yield tmp_path
    forget("my_rules")
