"""A run's directory: `config.json` says what was run, `results.jsonl` what was measured."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row, read_rows
from magmax_jax.evaluation.scales import Scales
from magmax_jax.io import json_lines
from magmax_jax.io.lock_files import Lock, is_lock_file
from magmax_jax.io.removal import remove
from magmax_jax.io.rooms import remove_abandoned
from magmax_jax.runs.about import is_about
from magmax_jax.runs.completeness import has_chosen, is_whole
from magmax_jax.runs.differences import differences
from magmax_jax.runs.file_names import (
    ABOUT,
    ANALYSIS,
    CHECKPOINTS,
    CONFIG,
    COUNTS,
    DATA_FILES,
    HEAD,
    METRICS,
    REPORT,
    ROWS,
    SWEEP,
    TASKS,
)

PUBLISHED = "published_scales"
"""Key in about.json: rule -> its default scale."""
PARTIAL = f"{CONFIG}.partial"
LONGEST_NAME = 180
"""Longest model name, in bytes, that a file name holds in full: file systems allow 255 bytes, and
affixes are added."""


class RunDirectory:
    """A directory that one run owns.

    If several processes share a run, one writes; in the others `start` and `append` do nothing.

    Attributes:
      lock: the writing process's lock while it holds the directory (`holding.held`).
    """

    def __init__(
        self,
        path: Path | str,
        overwrite: bool = False,
        writes: bool = True,
        resume: bool = True,
    ):
        self.path = Path(path)
        self.overwrite = overwrite
        self.writes = writes
        self.resume = resume
        self.lock: Lock | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def tasks(self) -> Path:
        """Every theta_t, if they are kept."""
        return self.path / TASKS

    @property
    def report(self) -> Path:
        return self.path / REPORT

    @property
    def counts(self) -> Path:
        """Exact counts of every evaluation."""
        return self.path / COUNTS

    def counts_of(self, after_task: int, label: str) -> Path:
        """The counts of one model (`Row.label`) after that many tasks."""
        # Some file systems do not allow colons, which a rule's name may have. A plus is doubled, so
        # that no two models share a file.
        name = label.replace("+", "++").replace(":", "+")
        if len(name.encode()) > LONGEST_NAME:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            name = f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"
        return self.counts / f"{after_task:03d}-{name}.safetensors"

    @property
    def about(self) -> Path:
        return self.path / ABOUT

    @property
    def metrics(self) -> Path:
        return self.path / METRICS

    def holds(self, config: ExperimentConfig) -> bool:
        """Whether this directory holds a run of this configuration, which is to be kept.

        Raises:
          UserError: it holds another run, or anything else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: choose another --out")
        if not self.path.exists() or all(is_lock_file(path.name) for path in self.path.iterdir()):
            return False
        stored = self._config()
        if stored is None and (self.path / PARTIAL).exists():
            return False  # a run was interrupted before it started
        if not isinstance(stored, dict) or not {"model", "scenario", "train"} <= set(stored):
            raise UserError(
                f"{self.path} is not empty, and what it holds is not a run: choose a new or empty "
                "directory as --out"
            )
        if self.overwrite:
            return False
        differing = self.differs(config)
        if differing:
            raise UserError(
                f"{self.path} holds a run of another configuration ({'; '.join(differing)}): "
                "choose another --out, or pass --overwrite to replace it"
            )
        if not self.resume:
            raise UserError(
                f"{self.path} holds a run of this configuration, and --no-resume does not resume "
                "it: choose another --out, or pass --overwrite to replace it"
            )
        return True

    def is_complete(self, config: ExperimentConfig, models: int) -> bool:
        """Whether this directory holds a run of this configuration with all of its rows.

        Reads neither data nor model: the rows of the pretrained model give the number of rows per
        evaluation and of tasks.

        Args:
          models: number of models evaluated after a task (`merge_specs.num_models`).
        """
        if not (self.path / CONFIG).exists() or self.differs(config):
            return False
        return is_whole(config, models, self.rows(), self.swept)

    def has_chosen(self, config: ExperimentConfig, tasks: int) -> bool:
        """Whether every merge has a chosen scale; True if `merging.scales` does not ask for any.

        Args:
          tasks: number of tasks that the run learns.
        """
        return has_chosen(config, tasks, self.swept)

    def start(self, config: ExperimentConfig) -> None:
        """Deletes an earlier run's files and writes the configuration.

        Raises:
          UserError: writing fails.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The old configuration is deleted first and the new one written last: in between,
            # nothing here counts as a run, and PARTIAL marks the directory as ours.
            (self.path / PARTIAL).write_text(config.to_json())
            (self.path / CONFIG).unlink(missing_ok=True)
            for file in (ROWS, METRICS, ABOUT, SWEEP, DATA_FILES, HEAD):
                (self.path / file).unlink(missing_ok=True)
            for directory in (CHECKPOINTS, TASKS, REPORT, COUNTS, ANALYSIS):
                remove(self.path / directory)
                remove_abandoned(self.path / directory)
            os.replace(self.path / PARTIAL, self.path / CONFIG)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror})") from None

    def check_held(self) -> None:
        """Call before writing anything that another process could be writing by now.

        Raises:
          UserError: another process took over while this one was suspended; or the lock file is
            gone, so another process could start.
        """
        if self.lock is None or self.lock.is_held:
            return
        stops = "this process stops, and writes nothing more there"
        if (by := self.lock.successor) is None:
            raise UserError(
                f"{self.path}, or {self.lock.path.name} in it, was moved or removed while this "
                f"process was running there: {stops}"
            )
        raise UserError(
            f"{self.path} was taken over by {by} while this process did not respond, for instance "
            f"because it was suspended: {stops}"
        )

    def append(self, rows: Iterable[Row]) -> None:
        """Appends one evaluation's rows to `results.jsonl` in a single write."""
        if not self.writes:
            return
        self.check_held()
        json_lines.append(self.path / ROWS, (row.record for row in rows))

    def keep(self, rows: Iterable[Row]) -> None:
        """Replaces the rows of `results.jsonl` atomically."""
        if self.writes:
            self.check_held()
            json_lines.write(self.path / ROWS, (row.record for row in rows))

    def rows(self) -> list[Row]:
        """The rows written so far, up to a line cut off by an interruption, if any."""
        return read_rows(self.path / ROWS)

    def keep_swept(self, rows: Iterable[Row]) -> None:
        """Replaces the rows of `sweep.jsonl` atomically."""
        if self.writes:
            self.check_held()
            json_lines.write(self.path / SWEEP, (row.record for row in rows))

    def swept(self) -> list[Row]:
        """The rows of a sweep of scales, if there was one."""
        return read_rows(self.path / SWEEP)

    def scales(self) -> Scales:
        """The chosen and the published scales of the run's merges after its latest task."""
        swept = self.swept()
        return scales_of(self.read_about(), swept, self.rows() if swept else [])

    def differs(self, config: ExperimentConfig) -> list[str]:
        """Fields in which the stored configuration differs; missing fields count as their defaults.

        Formatted as `train.epochs: 10 there, 5 here`.
        """
        try:
            stored = json.loads(ExperimentConfig.from_file(self.path / CONFIG).to_json())
        except UserError:
            stored = self._config()
        recorded = self.recorded().get("paths", {})
        paths = {
            text: (place, os.path.join(self.path, from_run))
            for text, (place, from_run) in recorded.items()
        }
        return sorted(differences(stored, json.loads(config.to_json()), paths))

    def read_about(self) -> dict[str, Any]:
        """The content of `about.json`; {} if it is missing or damaged."""
        try:
            found = json.loads(self.about.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if is_about(found) else {}

    def recorded(self) -> dict[str, Any]:
        """What `about.json` records of theta_0 and the data (`runs.recorded`); {} for older runs,
        which recorded nothing."""
        found = self.read_about().get("inputs")
        return found if isinstance(found, dict) else {}

    def _config(self) -> Any:
        try:
            return json.loads((self.path / CONFIG).read_text())
        except (OSError, ValueError, RecursionError):
            return None


def scales_of(about: Mapping[str, Any], swept: Sequence[Row], rows: Sequence[Row]) -> Scales:
    """The chosen and the published scales of a run's merges after its latest task.

    Args:
      about: the content of `about.json`.
      swept, rows: of `sweep.jsonl` and `results.jsonl`.
    """
    last = max((row.after_task for row in rows), default=0)
    published = about.get(PUBLISHED, {})  # older runs have none
    return Scales([row for row in swept if row.after_task == last], published)


def run_directories(path: Path) -> Iterator[Path]:
    """The directory itself if it is a run's, else the run directories in it, at any depth, by name.

    Does not search inside a run's directory.
    """
    for folder, inner, files in os.walk(path):
        if CONFIG in files and ({ROWS, METRICS, ABOUT} & set(files) or CHECKPOINTS in inner):
            inner.clear()
            yield Path(folder)
        inner.sort()
