"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it began is removed."""

import os
import signal
import threading

from magmax_jax.errors import Terminated

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What schedulers, containers and closed terminals send."""


def clean_up_on_signals() -> None:
    """From now on the first such signal raises `Terminated` in the main thread.

    Later ones are ignored, so that they do not interrupt the cleaning up. Signals that are ignored
    already, as `nohup` has it, stay so. Processes that are forked off end as they always did.
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
