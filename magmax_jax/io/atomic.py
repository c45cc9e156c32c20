"""Atomic files and directories: they appear complete or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.rooms import abandoned_rooms, room_beside


@contextlib.contextmanager
def new_file(path: Path, then: Callable[[], None] | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write a file to; it replaces `path` on success.

    The file is flushed to disk before it is renamed. Temporary names are unique, so several
    processes can write the same file: one of them wins. Only a killed process leaves anything
    behind, which the next writer of the file removes (`rooms`).

    Args:
      then: called once the file is there; if it raises, the file is withdrawn. Only for a `path`
        that does not exist yet.

    Raises:
      OSError: a disk operation fails.
    """
    with room_beside(path) as room:
        partial = room / "new.partial"  # the path's own name may be too long to extend
        yield partial
        sync(partial)
        _publish(partial, path, then)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to a file, atomically."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_directory(output: Path, then: Callable[[], None] | None = None) -> Iterator[Path]:
    """An empty directory under a temporary name, which becomes `output` on success.

    Args:
      then: called once `output` is there; if it raises, `output` is withdrawn.

    Raises:
      UserError: `output` is not empty, or a disk operation fails.
    """
    check_free(output)
    with refusing(output), _room_for(output) as room:
        partial = room / output.name
        partial.mkdir()
        yield partial
        partial.chmod(0o755)
        _publish(partial, output, then)


@contextlib.contextmanager
def replace_directory(output: Path) -> Iterator[Path]:
    """An empty directory under a temporary name, which replaces `output` on success.

    Between its two renames there is no `output`: if the process is killed there, the next writer
    puts the former one back.

    Raises:
      UserError: a disk operation fails; `output` is then unchanged.
    """
    with refusing(output), _room_for(output) as room:
        new = room / output.name
        new.mkdir()
        yield new
        try:
            with contextlib.suppress(FileNotFoundError):
                os.replace(output, _moved(room, output))
            os.replace(new, output)
        except BaseException:  # also a signal's
            _put_back(room, output)
            raise
        sync_names(output.parent)


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns an OSError into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from None


def check_free(output: Path) -> None:
    """Raises a UserError if `output` exists and is not an empty directory."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} already exists: choose another directory or remove it")


def _put_back(room: Path, output: Path) -> None:
    """Undoes the first of the two renames of `replace_directory`."""
    if _moved(room, output).is_dir() and not output.exists():
        os.replace(_moved(room, output), output)


def _moved(room: Path, output: Path) -> Path:
    return room / f"{output.name}.old"


@contextlib.contextmanager
def _room_for(output: Path) -> Iterator[Path]:
    output.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in abandoned_rooms(output):
        _put_back(abandoned, output)
    with room_beside(output) as room:
        yield room


def _publish(partial: Path, path: Path, then: Callable[[], None] | None) -> None:
    if then is None:
        os.replace(partial, path)
        sync_names(path.parent)
        return
    try:
        os.replace(partial, path)
        sync_names(path.parent)
        then()
    except BaseException:  # also a signal's
        if not partial.exists():
            os.replace(path, partial)
        raise


def sync(path: Path) -> None:
    """Flushes a file's content to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_names(directory: Path) -> None:
    """Flushes a directory's entries to disk, which some network file systems do not support."""
    with contextlib.suppress(OSError):
        sync(directory)
