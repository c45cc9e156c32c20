"""Stop requests: Ctrl-C, or a scheduler's SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils

from magmax_jax.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the process has been asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def at(self, step: int) -> bool:
        """Whether to stop after this step of the run; call after every step, in order.

        All processes give the same answer, some steps after one of them received SIGTERM.
        """
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def check(self) -> None:
        """Raises Interrupted if the process has been asked to stop."""
        if self.signal is not None:
            raise Interrupted(self.signal)


@contextmanager
def stop_signals(say: Callable[[str], None] = lambda text: None) -> Iterator[Stop]:
    """Within this context the first signal is only recorded; the second one acts as usual.

    Python delivers signals to the main thread only; in other threads this is a no-op. With several
    processes, signals are left to JAX, which forwards them to all.

    Args:
      say: reports the first signal.
    """
    stop = Stop()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # A shell's background job ignores Ctrl-C; keep it that way.
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        stop.signal = number
        restore()
        say("stopping after this step, which is saved (interrupt again to stop at once)")

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
