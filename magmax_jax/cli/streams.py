"""A program whose standard streams are closed, full or no longer read ends quietly."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import TextIO


def run_quietly(main: Callable[[], int]) -> int:
    """Runs a program; returns its exit code, including that of a `SystemExit`.

    The code is 141 (128 + SIGPIPE), without a message, if the reader has closed the pipe, as `head`
    does, and 2 with a message if output cannot be written. Streams that were closed from the start
    (`>&-`) become the null device.
    """
    _open_closed_streams()
    try:
        code = _code_of(main)
    except BrokenPipeError:
        if not _drop_broken():
            raise
        code = 128 + signal.SIGPIPE
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _drop(stream)
            code = 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else 2
            if stream is sys.stdout and code == 2:
                print(f"error: standard output: {error.strerror}", file=sys.stderr)
    return code


def _code_of(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # rich exits this way
            return 128 + signal.SIGPIPE
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)


def _open_closed_streams() -> None:
    """Otherwise the next opened file would get the closed descriptor, and receive the output."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
                continue
            # The lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _drop_broken() -> bool:
    """Whether standard output or error is a pipe that its reader has closed.

    Such a stream becomes the null device, because Python flushes its buffer on exit.
    """
    broken = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in broken:
        _drop(stream)
    return bool(broken)


def _is_broken(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
