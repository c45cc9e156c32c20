"""Checks of `magmax doctor` and what they find."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

from magmax_jax.errors import first_line
from magmax_jax.registry import CHECKS

Severity = Literal["ok", "warning", "broken"]
"""broken: something does not work until the remedy is applied. warning: something works worse, or
only in part."""


class Finding(NamedTuple):
    """One fact about the installation or the machine.

    Attributes:
      text: the fact, one clause.
      severity: how bad it is.
      remedy: what to do, a command or a clause; "" only if the severity is ok.
    """

    text: str
    severity: Severity = "ok"
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A check, registered under its name in `registry.CHECKS`.

    Attributes:
      title: heading of its findings.
      look: makes the findings. It takes at most about a second and changes nothing. An exception
        becomes a finding of its own.
      waits: whether it mostly waits for the network, so that it may run beside the others.
    """

    title: str
    look: Callable[[], Iterable[Finding]]
    waits: bool = False


def examine() -> dict[str, list[Finding]]:
    """Runs every check. Only those that wait run in threads: others import the same packages.

    Returns:
      check -> its findings, in the order of the registry.
    """
    checks = dict(CHECKS.items())
    with ThreadPoolExecutor() as pool:
        waiting = {n: pool.submit(_findings, check) for n, check in checks.items() if check.waits}
        found = {n: _findings(check) for n, check in checks.items() if not check.waits}
        return {n: found[n] if n in found else waiting[n].result() for n in checks}


def _findings(check: Check) -> list[Finding]:
    try:
        return list(check.look())
    except Exception as error:  # one check that fails must not hide the others
        line = first_line(error)
        return [Finding(f"this check failed ({line})", "warning", "report it as a bug")]
