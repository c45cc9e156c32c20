"""Files and directories that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from magmax_jax.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Makes `text` the content of a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """An empty directory under a temporary name, which becomes `output` if all goes well.

    Raises:
      UserError: `output` holds something, or the disk refuses.
    """
    check_free(output)
    with refusing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        try:
            yield partial
            partial.chmod(0o755)
            os.replace(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


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
