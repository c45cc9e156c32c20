"""A run's checkpoints; the only file that uses Orbax.

A checkpoint is one or more named trees of arrays and a note. It is written in the background and
appears under its number once it is complete. The latest two are kept, so that if the last one is
damaged, the one before it can be used.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from magmax_jax.errors import Interrupted, UserError, first_line
from magmax_jax.io.removal import remove
from magmax_jax.runs.checksums import checksums_of, digest_of
from magmax_jax.runs.orbax_log import OrbaxLog

PyTree = Any
KEPT = 2
"""Number of checkpoints that are kept."""
NOTE, DIGEST = "note", "sha256"
"""The name of the note in a checkpoint, and of the note's own digest in it."""


class Restored(NamedTuple):
    """The contents of a checkpoint, or the requested part of them."""

    number: int
    note: dict[str, Any]
    trees: dict[str, PyTree]


class Checkpoints:
    """The checkpoints in one directory. A context manager: leaving it waits for the last write.

    A checkpoint that cannot be written raises a UserError, once: in `save`, or, because it is
    written in the background, in the next `save`, `wait` or `close`.

    Args:
      directory: created if missing.
      keep: how many to keep, None for all.
      say: reports a damaged checkpoint that is skipped, and what went wrong besides writing.
      check: called before each save; raises to refuse it.
      tidy: removes what interrupted writes have left; only for the run that holds the directory.
    """

    def __init__(
        self,
        directory: Path,
        keep: int | None = KEPT,
        say: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
        tidy: bool = False,
    ):
        self.directory = directory.absolute()
        self._say, self._check = say, check
        self._writing: int | None = None  # the number of the checkpoint in the background
        if tidy:
            self._remove_partial()
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(OrbaxLog())
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    create=True,
                    # Two managers that save at once must not meet at each other's barriers: a
                    # run of several processes would wait forever.
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        barrier_sync_key_prefix=self.directory.name
                    ),
                ),
            )
            self._opened = stack.pop_all()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            self.close()
        except UserError as failed:
            if error is None or isinstance(error, Interrupted):  # which says that all is saved
                raise
            self._say(f"note: {failed}")

    @property
    def numbers(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, number: int, trees: dict[str, PyTree], note: dict[str, Any]) -> None:
        """Starts writing a checkpoint; its arrays may be donated as soon as this returns.

        Args:
          number: greater than that of every existing checkpoint.
          trees: named trees of arrays; trees without leaves may be left out.
          note: JSON-serialisable.

        Raises:
          UserError: this checkpoint or the one before cannot be written.
        """
        self._check()
        trees = {name: tree for name, tree in trees.items() if jax.tree.leaves(tree)}
        checksums = {name: checksums_of(tree) for name, tree in trees.items()}
        args = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        note = note | {"checksums": checksums}
        args[NOTE] = ocp.args.JsonSave(note | {DIGEST: digest_of(note)})
        self.wait()
        self._writing = number
        with self._reporting():
            self._manager.save(number, args=ocp.args.Composite(**args))

    def wait(self) -> None:
        """Blocks until every save is on disk.

        Raises:
          UserError: a checkpoint cannot be written.
        """
        with self._reporting():
            self._manager.wait_until_finished()
            if self._writing is not None and jax.process_index() == 0:
                written = self.directory / str(self._writing)
                if not written.is_dir():
                    reasons = [logged.error for logged in self._log.taken()]
                    raise next(iter(reasons), OSError("Orbax wrote nothing"))
        self._writing = None
        for text, error in self._log.taken():
            self._say(f"note: {text} ({_reason(error)})")

    def close(self) -> None:
        """Waits as `wait` does, then ends Orbax's threads.

        Raises:
          UserError: a checkpoint cannot be written.
        """
        with self._opened:
            try:
                self.wait()
                if not self._log.failed:
                    with self._reporting():
                        self._manager.close()
            finally:
                if self._log.failed:  # which was reported already
                    with contextlib.suppress(Exception):
                        self._manager.close()
                    self._remove_partial()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turns what Orbax raises into a UserError that names the checkpoint."""
        try:
            yield
        except Exception as error:
            number, self._writing, self._log.failed = self._writing, None, True
            self._log.taken()
            if not _is_of_the_disk(error):
                raise
            path = self.directory if number is None else self.directory / str(number)
            raise UserError(
                f"the checkpoint {path} cannot be written ({_reason(error)}): make room or check "
                "the disk, then repeat the command, which resumes from the last complete checkpoint"
            ) from error

    def _remove_partial(self) -> None:
        if jax.process_index() == 0:
            for path in self.directory.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}"):
                remove(path)

    def restore(
        self, like: Callable[[dict[str, Any]], dict[str, PyTree]], number: int | None = None
    ) -> Restored | None:
        """The checkpoint with that number, or by default the latest undamaged one.

        Args:
          like: takes the note and returns templates of the trees to restore, by name: arrays or
            `jax.ShapeDtypeStruct`s that give structure, shapes, dtypes and shardings.

        Returns:
          None if there is no checkpoint.

        Raises:
          UserError: there are checkpoints, but none of them can be read.
        """
        found = self.numbers if number is None else [number]
        for candidate in reversed(found):
            try:
                return self._read(candidate, like)
            except Exception as error:  # a damaged file can make Orbax raise anything
                self._log.taken()
                if number is not None:
                    raise UserError(
                        f"{self.directory / str(number)} cannot be read ({first_line(error)})"
                    ) from None
                self._set_aside(candidate, error)
        if found:
            raise UserError(
                f"{self.directory} contains no checkpoint that can be read: --overwrite starts the "
                "run again"
            )
        return None

    def _set_aside(self, number: int, error: Exception) -> None:
        """Renames a damaged checkpoint, because an intact one will need its number."""
        path = self.directory / str(number)
        aside = path.with_name(f"{number}.damaged")
        reason = first_line(error)
        self._say(f"{path} is damaged ({reason}): renamed to {aside.name}, using the one before")
        remove(aside)
        os.replace(path, aside)
        self._manager.reload()

    def _read(self, number: int, like: Callable[[dict[str, Any]], dict[str, PyTree]]) -> Restored:
        read = partial(self._manager.restore, number)
        note = read(args=ocp.args.Composite(**{NOTE: ocp.args.JsonRestore()}))[NOTE]
        # Checkpoints of earlier versions have no digest.
        if DIGEST in note and note.pop(DIGEST) != digest_of(note):
            raise ValueError(f"its {NOTE} is not what was saved")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like(note))
        stored = {name: tree for name, tree in abstract.items() if jax.tree.leaves(tree)}
        args = {name: ocp.args.StandardRestore(tree) for name, tree in stored.items()}
        trees = abstract | dict(read(args=ocp.args.Composite(**args)).items())
        checksums = note.pop("checksums")
        for name in stored:
            if checksums_of(trees[name]) != checksums[name]:
                raise ValueError(f"its {name} is not what was saved")
        return Restored(number, note, trees)


_NATIVE = re.compile(r"os_error_code='(\d+)'")
"""The end of native code's errors, which are ValueErrors."""


def _is_of_the_disk(error: Exception) -> bool:
    """False if a device has no memory left, or another process of the run is gone."""
    if isinstance(error, OSError) or _NATIVE.search(str(error)):
        return True
    return jax.process_count() == 1 and not isinstance(error, jax.errors.JaxRuntimeError)


def _reason(error: BaseException) -> str:
    """Why something failed, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    native = _NATIVE.search(str(error))
    return os.strerror(int(native[1])) if native else first_line(error)
