"""Is this machine ready: `magmax doctor [--json]`."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.errors import MAGMAX, Program, counted, harmless
from magmax_jax.registry import CHECKS, COMMANDS

if TYPE_CHECKING:
    from magmax_jax.doctor.check import Finding

MARKS = {"ok": "ok", "warning": "warning", "broken": "BROKEN"}


@dataclass(frozen=True)
class Doctor:
    """Checks packages, devices, memory, caches, disk and hub, and says what to do about problems.

    Exits with 1 if something is broken. Changes nothing, and prints no token.
    """

    json: bool = False
    """Print one JSON object instead of text: for each check a list of findings with severity (ok,
    warning or broken), text and remedy."""


def as_text(found: Mapping[str, "Sequence[Finding]"]) -> str:
    """A heading for each check and a line for each finding, remedies below theirs."""
    lines = []
    for name, findings in found.items():
        lines.append(CHECKS[name].title)
        for finding in findings:
            lines.append(f"  {MARKS[finding.severity]:<9}{finding.text}")
            lines += [f"{'':<11}-> {finding.remedy}"] if finding.remedy else []
    severities = [finding.severity for findings in found.values() for finding in findings]
    broken, warnings = severities.count("broken"), severities.count("warning")
    verdict = counted(broken, "problem") if broken else "nothing is broken"
    return "\n".join([*lines, f"{verdict}, {counted(warnings, 'warning')}"])


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Prints what every check finds.

    Raises:
      SystemExit: with code 1, if something is broken.
    """
    options = tyro.cli(Doctor, args=argv, prog=program.line("doctor"))
    from magmax_jax.doctor.check import examine

    found = examine()
    if options.json:
        plain = {name: [finding._asdict() for finding in each] for name, each in found.items()}
        print(json.dumps(plain, indent=1))
    else:
        print(harmless(as_text(found)))
    if any(finding.severity == "broken" for each in found.values() for finding in each):
        sys.exit(1)


COMMANDS.register(
    "doctor", Command("Checks versions, devices, memory, caches, disk and hub.", main)
)
