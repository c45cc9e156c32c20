"""Finds theta_0 and the data of a starting run, compares them with an earlier start's, and records
them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.fingerprint import (
    Fingerprint,
    data_of,
    directories,
    fingerprint,
    on_this_machine,
    value_of,
)
from magmax_jax.runs.locate import located, paths_of, with_models
from magmax_jax.runs.recorded import as_json, changes, refuse, unrecorded, write_sizes
from magmax_jax.scenarios import Scenario
from magmax_jax.sharding import Layout


class Inputs:
    """The inputs of a run.

    Attributes:
      config: its configuration, with paths where model and data were found.
      changed: what differs from the record of the run's latest start, one clause each.
    """

    def __init__(self, config: ExperimentConfig, out: RunDirectory, kept: bool, allow: bool):
        """
        Args:
          config: as the user wrote it.
          kept: whether `out` holds a run to resume.
          allow: changes are warnings instead of errors.
        """
        self._written, self._out, self._kept, self._allow = config, out, kept, allow
        self._record = out.recorded() if kept else {}
        self.config = located(out.path, config) if kept else config
        self.changed: list[str] = []
        self._found = Fingerprint()

    @contextmanager
    def reading(self, scenario: Scenario) -> Iterator[None]:
        """Reads the files in a thread while the model is loaded; hashing releases the GIL."""
        models = directories(self.config)
        # A hub id is resolved once: the hub may answer differently the next time.
        sources = {value_of(self.config, name): str(path) for name, path in models.items()}
        self.config = with_models(self.config, sources)
        with ThreadPoolExecutor(1) as pool:
            data = data_of(self.config.scenario, scenario)
            found = pool.submit(fingerprint, models, data)
            try:
                yield
            except UserError:
                if self._record:  # if the model no longer loads, report that it changed
                    self._found = found.result()
                    self._compare()
                raise
            self._found = found.result()

    def read_present(self, scenario: Scenario) -> None:
        """Reads whatever a complete run still has; it no longer needs its model."""
        models = {n: str(path) for n, path in directories(self.config, hub.cached).items()}
        data = data_of(self.config.scenario, scenario)
        self._found = fingerprint(on_this_machine(models), data)

    def check(self, layout: Layout) -> list[str]:
        """Compares the processes' files with each other and with the record.

        Every process reads its own files: each loads the model from its own disk or a shared one.

        Returns:
          warnings to report.

        Raises:
          UserError: in all processes, if something changed and changes are not allowed, or if the
            processes read different files.
        """
        layout.meet("the files of the model or the data", self._found.identity)
        return self._compare()

    def record(self) -> dict[str, Any]:
        """Writes the names of the data's files; returns what `about.json` records.

        Raises:
          OSError: writing fails.
        """
        write_sizes(self._out, self._found)
        models = directories(self.config, hub.cached)
        return as_json(self._found, paths_of(self._out.path, self._written, self.config, models))

    def _compare(self) -> list[str]:
        self.changed = changes(self._out.path, self._record, self._found)
        if self._kept and not self._record:
            return unrecorded(self._out.path)
        return refuse(self._out.path, self.changed, self._allow)
