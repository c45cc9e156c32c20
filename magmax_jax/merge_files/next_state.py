"""The next state of a merge, published right after the output, so that both are there or neither.

Two renames cannot happen at once. So before the first one, the finished state and a note lie in a
temporary directory (`io.rooms`) beside the state file; if the second rename fails, the output is
withdrawn; and if the process is killed between the two, `finish_interrupted` of the next merge
makes up for the second one. The note identifies the output and the state that this one replaces,
by what a copy, a new version or an edit would change.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from magmax_jax.io.atomic import refusing, sync, sync_names
from magmax_jax.io.removal import remove
from magmax_jax.io.rooms import abandoned_rooms, remove_abandoned, room_beside
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.merge_files.job import Job, absolute
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.state import MergeHistory, read_state

_STATE, _NOTE = "state.partial", "merge.json"


class NextState:
    """A state file being written.

    Attributes:
      writer: takes its tensors.
    """

    def __init__(self, plan: Plan, path: Path, room: Path, writer: FileWriter):
        self.writer = writer
        self._plan, self._path, self._room = plan, path, room
        self._replaces = _identity(path)

    def complete(self, history: MergeHistory, partial: Path, output: Path) -> None:
        """Completes the file, once everything of the output is written.

        Args:
          partial: where the output is.
          output: what it will be renamed to.
        """
        self.writer.close(history.to_metadata())
        with refusing(self._path):
            sync(self._room / _STATE)
            note = {
                "state": self._path.name,
                "replaces": self._replaces,
                "output": str(output.absolute()),
                "files": _files(partial),
                "command": _command(self._plan.job, output),
                "scale": self._plan.scale,
            }
            (self._room / _NOTE).write_text(json.dumps(note), encoding="utf-8")
            sync(self._room / _NOTE)
            sync_names(self._room)
            sync_names(self._room.parent)

    def publish(self) -> None:
        """Renames the file to the state's name.

        Raises:
          UserError: a disk operation fails.
        """
        with refusing(self._path):
            try:
                os.replace(self._room / _STATE, self._path)
            except BaseException:
                if (self._room / _STATE).exists():  # otherwise a signal came after the rename
                    raise
            sync_names(self._path.parent)


@contextlib.contextmanager
def next_state(plan: Plan) -> Iterator[NextState | None]:
    """The next state of the plan's file; it is lost unless it is published. None without a file.

    Raises:
      UserError: a disk operation fails.
    """
    path = plan.job.state
    if not path:
        yield None
        return
    tasks = len(plan.history.tasks) + len(plan.models)
    space = (tasks + 2) * 4096 + 20 * sum(map(len, plan.labels)) + 8 * len(plan.labels)
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with room_beside(path) as room:
            writer = FileWriter(room / _STATE, plan.state_layout, metadata_bytes=space)
            try:
                yield NextState(plan, path, room, writer)
            except BaseException:
                writer.abandon()
                raise


class Finished(NamedTuple):
    """A merge that was killed after its output was published, and whose state now is as well.

    Attributes:
      output: of that merge.
      command: `_command` of that merge.
      scale: of that merge.
      history: in the state.
    """

    output: Path
    command: Any
    scale: float
    history: MergeHistory

    def is_of(self, job: Job, output: Path) -> bool:
        """Whether that merge was started by the same command."""
        return bool(self.command == _command(job, output))


def finish_interrupted(path: Path) -> Finished | None:
    """Publishes the state of a merge that was killed right after its output was published.

    Nothing is done unless the output is exactly the one that merge wrote, and the state file the
    one it read.

    Args:
      path: of the state file.

    Raises:
      UserError: a disk operation fails; another call tries again.
    """
    for room in abandoned_rooms(path):
        try:
            note = json.loads((room / _NOTE).read_text(encoding="utf-8"))
            output = Path(note["output"])
            fits = (
                note["state"] == path.name
                and note["replaces"] == _identity(path)
                and note["files"] == _files(output)
            )
            history, _ = read_state(room / _STATE)
            finished = Finished(output, note["command"], note["scale"], history)
        except (OSError, ValueError, KeyError, TypeError):  # it was killed earlier
            continue
        if not fits:
            continue
        with refusing(path):
            os.replace(room / _STATE, path)
            sync_names(path.parent)
        remove(room)
        remove_abandoned(output)
        return finished
    return None


def _command(job: Job, output: Path) -> Any:
    """What makes two commands the same, as JSON; sources as the directories that they name."""
    facts = dataclasses.asdict(job) | {
        "pretrained": job.pretrained and absolute(job.pretrained),
        "finetuned": [absolute(source) for source in job.finetuned],
        "state": str(job.state and job.state.absolute()),
        "output": str(output.absolute()),
    }
    return json.loads(json.dumps(facts))


def _files(output: Path) -> dict[str, list[int] | None]:
    """Identity of every file of an output, which may be a single one, by its path inside."""
    paths = [output, *sorted(output.rglob("*"))]
    return {str(path.relative_to(output)): _identity(path) for path in paths if not path.is_dir()}


def _identity(path: Path) -> list[int] | None:
    """What a rename keeps, but a copy, a new version or an edit changes; None without a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
