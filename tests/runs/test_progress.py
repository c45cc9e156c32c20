"""Progress without a terminal."""

import builtins
import io
import sys

from magmax_jax.runs.progress import TerminalProgress
from magmax_jax.training import Metrics


class ZMQInteractiveShell:
    """Has the name of IPython's notebook shell."""


class NotebookOutput(io.StringIO):
    """Standard output in a notebook, which claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_notebook_without_widgets_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr(sys, "stdout", NotebookOutput())
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = TerminalProgress()
    with progress.training("task 1", steps=1, images=4) as show:
        show(0, Metrics(0.25, *[0.0] * 4, penalty=None))
    assert list(progress.evaluating("zero_shot", [1, 2], 2)) == [1, 2]
    progress.say("done")
    shown = sys.stdout.getvalue()
    assert "task 1" in shown and "loss 0.250" in shown and shown.endswith("done\n")
    assert "\x1b" not in shown and "ipywidgets" not in shown
