"""Whether the installed packages are those that magmax_jax supports."""

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from magmax_jax.devices.machine import installed
from magmax_jax.doctor.check import Check, Finding, Severity
from magmax_jax.errors import some
from magmax_jax.packages import CORE, install, package_of, requirements
from magmax_jax.registry import CHECKS
from magmax_jax.version import __version__

OLDEST, NEWEST = (3, 11), (3, 13)
"""Python versions that are tested."""


def look(
    lists: Mapping[str, Sequence[str]] | None = None,
    found: Mapping[str, str] | None = None,
    python: tuple[int, int] = sys.version_info[:2],
) -> Iterator[Finding]:
    """magmax_jax and Python, then every listed package; missing ones of an extra in one line."""
    lists = requirements() if lists is None else lists
    names = {package_of(line) for lines in lists.values() for line in lines} | {"jaxlib"}
    found = installed(sorted(names)) if found is None else found
    yield Finding(f"magmax_jax {__version__}")
    yield _python(python)
    core = [_checked(line, CORE, found.get(package_of(line))) for line in lists[CORE]]
    yield from core
    yield _jaxlib(found)
    for extra, lines in lists.items():
        if extra == CORE:
            continue
        missing = [package_of(line) for line in lines if package_of(line) not in found]
        if missing:
            lack = "is not installed" if len(missing) == len(lines) else f"lacks {some(missing)}"
            yield Finding(f"[{extra}] {lack}; if you need it: {install(extra)}")
        versions = ((line, found.get(package_of(line))) for line in lines)
        yield from (_checked(line, extra, version) for line, version in versions if version)


def _python(version: tuple[int, int]) -> Finding:
    text = f"Python {platform.python_version() if version == sys.version_info[:2] else version}"
    if version > NEWEST:
        newest = ".".join(map(str, NEWEST))
        return Finding(text, "warning", f"use Python {newest}, the newest one that is tested")
    return Finding(text)


def _checked(line: str, extra: str, version: str | None) -> Finding:
    requirement = Requirement(line)
    if version is None:
        return Finding(f"{requirement.name} is not installed", "broken", install(extra))
    text = f"{requirement.name} {version}"
    try:
        supported = requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        supported = False
    if supported:
        return Finding(text)
    severity: Severity = "broken" if extra == CORE else "warning"
    return Finding(f"{text} is not supported", severity, f"pip install '{line}'")


def _jaxlib(found: Mapping[str, str]) -> Finding:
    """jaxlib must be the one that jax asks for."""
    version = found.get("jaxlib")
    if version is None:
        return Finding("jaxlib is not installed", "broken", "pip install --upgrade jax")
    asked = [Requirement(line) for line in metadata.requires("jax") or ()]
    [line, *_] = [each for each in asked if each.name == "jaxlib" and each.marker is None]
    if not line.specifier.contains(Version(version), prereleases=True):
        jax = found.get("jax", "")
        remedy = f"pip install 'jax=={jax}' '{line}'"
        return Finding(f"jaxlib {version} does not fit jax {jax}", "broken", remedy)
    return Finding(f"jaxlib {version}")


CHECKS.register("versions", Check("Versions", look))
