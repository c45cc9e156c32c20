"""SIGTERM and SIGHUP end a command as Ctrl-C does: unfinished output is removed."""

import os
import signal
import threading

from magmax_jax.errors import Terminated

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that schedulers, containers and closed terminals send."""


def clean_up_on_signals() -> None:
    """From now on, the first such signal raises `Terminated` in the main thread.

    Later signals are ignored, so they do not interrupt the cleanup. Signals that are already
    ignored, as under `nohup`, stay ignored. Forked processes end on a signal as usual.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)

    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)
