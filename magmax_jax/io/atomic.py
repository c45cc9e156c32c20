"""Files and directories that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.rooms import room_beside


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path beside `path` at which to write a file, which replaces `path` if all goes well.

    The file is on the disk before it gets its name. Temporary names are unique, so several
    processes can write the same file: one of them wins. Only a process that is killed leaves
    something behind, which the next writer of the file removes (`rooms`).

    Raises:
      OSError: the disk refuses.
    """
    with room_beside(path) as room:
        partial = room / "new.partial"  # the path's own name may leave no space for more
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync_names(path.parent)


def write_text(path: Path, text: str) -> None:
    """Makes `text` the content of a file, whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """An empty directory under a temporary name, which becomes `output` if all goes well.

    Raises:
      UserError: `output` holds something, or the disk refuses.
    """
    check_free(output)
    with refusing(output), _room_for(output) as room:
        partial = room / output.name
        partial.mkdir()
        yield partial
        partial.chmod(0o755)
        os.replace(partial, output)
        _sync_names(output.parent)


@contextlib.contextmanager
def replace_directory(output: Path) -> Iterator[Path]:
    """An empty directory under a temporary name, which replaces `output` if all goes well.

    Raises:
      UserError: the disk refuses; `output` is then as it was.
    """
    with refusing(output), _room_for(output) as room:
        new, old = room / output.name, room / f"{output.name}.old"
        new.mkdir()
        yield new
        with contextlib.suppress(FileNotFoundError):
            os.replace(output, old)
        try:
            os.replace(new, output)
        except OSError:
            if old.exists():
                os.replace(old, output)
            raise
        _sync_names(output.parent)


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from None


def check_free(output: Path) -> None:
    """Raises a UserError if `output` exists and is not an empty directory."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: choose another directory or remove it")


@contextlib.contextmanager
def _room_for(output: Path) -> Iterator[Path]:
    output.parent.mkdir(parents=True, exist_ok=True)
    with room_beside(output) as room:
        yield room


def _sync(path: Path) -> None:
    """Waits until the disk has a file's content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_names(directory: Path) -> None:
    """Waits for the names in a directory, which some network file systems cannot do."""
    with contextlib.suppress(OSError):
        _sync(directory)
