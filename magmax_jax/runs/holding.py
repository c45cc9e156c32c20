"""Locks a run's directory, so that only one process group writes into it at a time."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from magmax_jax.errors import UserError
from magmax_jax.io.lock_files import BEAT, SILENT, Claim, Holder
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.sharding import Layout

_HELD, _WAIT = "held", "wait"


@contextmanager
def held(
    out: RunDirectory,
    layout: Layout,
    say: Callable[[str], None] = lambda text: None,
    beat: float = BEAT,
) -> Iterator[None]:
    """Holds a run's directory, which is created if missing.

    All processes of a run must call this; process 0 holds the directory. A killed process leaves
    its lock behind: on the same machine it is taken over at once, on another machine after `SILENT`
    missed heartbeats.

    Args:
      say: reports waiting for a process on another host, or taking over from a dead one.
      beat: seconds between two heartbeats.

    Raises:
      UserError: another process holds it (raised in every process of this run), or writing fails.
    """
    claim, said = Claim(out.path, beat), False
    while True:
        answer = ""
        if layout.is_first:
            answer, holder = _try(out, claim)
            if holder and answer == _WAIT and not said:
                said = True
                say(
                    f"note: {holder} may be running in {out.path}: waiting up to "
                    f"{SILENT * beat:g} s for its heartbeat"
                )
        answer = layout.from_first(answer)
        if answer == _HELD:
            break
        if answer != _WAIT:
            raise UserError(answer)
        time.sleep(beat / 10 * random.uniform(0.5, 1.0))
    try:
        if out.lock and out.lock.before:
            say(f"note: {out.lock.before} ended without releasing {out.path}: taking over")
        yield
    finally:
        if out.lock:
            out.lock.release()
        out.lock = None


def refuse_if_held(out: RunDirectory, layout: Layout) -> None:
    """Raises a UserError if another process on this machine holds the directory.

    An early check, before data and model are loaded, that all processes of a run must call; `held`
    is authoritative.
    """
    found = Claim(out.path).look() if layout.is_first else None
    refusal = layout.from_first(_refusal(out, found[0]) if found and found[1] else "")
    if refusal:
        raise UserError(refusal)


def _try(out: RunDirectory, claim: Claim) -> tuple[str, Holder | None]:
    """Takes the directory if nobody holds it; returns the outcome and its holder."""
    try:
        out.path.mkdir(parents=True, exist_ok=True)
        found = claim.look()
        if found is None:
            out.lock = claim.take()
            return (_HELD if out.lock else _WAIT), None
    except OSError as error:
        return f"{out.path} cannot be written ({error.strerror or error})", None
    holder, alive = found
    return (_refusal(out, holder) if alive else _WAIT), holder


def _refusal(out: RunDirectory, holder: Holder) -> str:
    return (
        f"{out.path} is already in use by {holder}: wait until that ends, or choose another --out"
    )
