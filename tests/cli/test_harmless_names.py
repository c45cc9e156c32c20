"""Names with terminal escape sequences are shown harmlessly by commands."""

import io
from types import SimpleNamespace

import numpy as np
from rich.console import Console
from rich.table import Table

from magmax_jax.cli.evaluate_tables import _by_class
from magmax_jax.runs.progress import TerminalProgress

EVIL, SHOWN = "cat\x1b]0;owned\x07", r"cat\x1b]0;owned\x07"


def test_progress_shows_them_harmlessly():
    out = io.StringIO()
    progress = TerminalProgress(Console(file=out, width=200))
    progress.say(f"note: {EVIL}")
    with progress.training(EVIL, 1, 1):
        pass
    assert "\x1b" not in out.getvalue() and out.getvalue().count(SHOWN) == 2


def test_classes_are_listed_harmlessly():
    scenario = SimpleNamespace(heads=[SimpleNamespace(class_names=(EVIL,))])
    counts = SimpleNamespace(agnostic=np.ones((1, 1, 1)), total=np.full((1, 1, 1), 2))
    table = _by_class(Table("class", "model"), [SimpleNamespace(counts=counts)], scenario)
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    assert SHOWN in out.getvalue() and "50.0%" in out.getvalue() and "\x1b" not in out.getvalue()
