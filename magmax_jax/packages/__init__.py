"""The packages that magmax_jax uses, and the extra of magmax_jax that installs each.

`core.txt` lists what every installation has; each other NAME.txt beside it lists what the extra
[NAME] adds. pip and `pyproject.toml` read the same files.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError

CORE = "core"
_MODULES = {
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "tensorflow-datasets": "tensorflow_datasets",
}
"""Packages whose module has another name."""


class MissingExtraError(UserError, ModuleNotFoundError):
    """A package of an extra is not installed; the message has the command that installs it.

    It is a ModuleNotFoundError too, so `except ImportError` around an optional import still works.
    """


def requirements() -> dict[str, tuple[str, ...]]:
    """The extras, and `core`, with the requirement lines of each, such as "numpy>=2.2,<3"."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.txt")):
        lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
        found[file.stem] = tuple(line for line in lines if line)
    return found


def package_of(requirement: str) -> str:
    """The package that a requirement line names.

    >>> package_of("orbax-checkpoint>=0.12.0,<0.13")
    'orbax-checkpoint'
    """
    return requirement.partition(">")[0].partition("<")[0].partition("=")[0].strip()


def module_of(package: str) -> str:
    """The module that a package installs.

    >>> module_of("pillow"), module_of("flax")
    ('PIL', 'flax')
    """
    return _MODULES.get(package, package)


def install(extra: str) -> str:
    """The command that installs an extra, or magmax_jax itself for `core`."""
    return "pip install magmax_jax" if extra == CORE else f"pip install 'magmax_jax[{extra}]'"


@contextmanager
def missing_extras_named() -> Iterator[None]:
    """Where an optional package may be imported: says which extra installs it.

    Also a decorator of functions.

    Raises:
      MissingExtraError: in place of the ModuleNotFoundError of a package of some extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        for extra, lines in requirements().items():
            for package in map(package_of, lines):
                if module_of(package) == missing and not isinstance(error, MissingExtraError):
                    raise MissingExtraError(
                        f"the package {package} is not installed: {install(extra)}"
                    ) from error
        raise


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, which imports a public name's module on first use.

    Args:
      package: the package's `__name__`.
      homes: public name -> the module within the package that defines it, or "" if the name is a
        module itself; an extra dot leads to another package.

    Raises:
      MissingExtraError: that module needs a package that is not installed.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with missing_extras_named():
            module = importlib.import_module(f".{homes[name] or name}", package)
        return getattr(module, name) if homes[name] else module

    return find
