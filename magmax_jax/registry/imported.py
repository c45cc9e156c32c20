"""Values of users' own modules, named on a command line as `module:attribute`."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError, meant


def is_path(name: str) -> bool:
    """Whether a name has the form `module:attribute`; imports nothing.

    >>> is_path("my_rules:median"), is_path("package.module:factory"), is_path("median")
    (True, True, False)
    >>> is_path("my_rules:median@0.5"), is_path("runs/mine:median"), is_path("my_rules:")
    (False, False, False)
    """
    module, _, attribute = name.partition(":")
    return attribute.isidentifier() and all(word.isidentifier() for word in module.split("."))


def import_value(name: str) -> Any:
    """The value named by `module:attribute`; also searches the working directory for the module.

    Importing runs the module, so pass only names that the user gave or wants to run.

    Args:
      name: of that form (see `is_path`).

    Raises:
      UserError: the module is not found or cannot be imported (the cause is kept), or it has no
        such attribute.
    """
    path, _, attribute = name.partition(":")
    try:
        with _working_directory_importable():
            module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # SystemExit: a script without a main guard
        if _is_missing(path, error):
            file = path.removesuffix(".py")
            remedy = f": write {file}:{attribute}" if file != path else ""
            raise UserError(
                f"{name}: there is no module {path}, neither installed nor in {Path.cwd()}{remedy}"
            ) from None
        *_, last = str(error).splitlines() or [""]
        raise UserError(
            f"{name}: importing {path} fails ({type(error).__name__}: {last})"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [word for word in vars(module) if not word.startswith("_")]
        nearest = meant(attribute, public, f"{path}:")
        raise UserError(f"{name}: {path} has no {attribute}{nearest}") from None


def _is_missing(path: str, error: BaseException) -> bool:
    """Whether the module itself is missing, rather than one that it imports."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{path}.".startswith(f"{missing}.")


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Makes the working directory importable, as under `python -m`."""
    importlib.invalidate_caches()  # the file may be newer than the cached directory listing
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have changed sys.path
            sys.path.remove(here)
