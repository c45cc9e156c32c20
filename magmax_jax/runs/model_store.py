"""The models that a run has kept, read lazily from its checkpoints."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from magmax_jax.errors import ConfigError, UserError
from magmax_jax.merging import State, fold, merged
from magmax_jax.merging.rule import informed
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.file_names import CHECKPOINTS, TASKS
from magmax_jax.runs.kept_tasks import MOMENTS, kept_model, kept_shapes
from magmax_jax.runs.merge_specs import Merge, Refitted, needs_moments, scale_of
from magmax_jax.runs.model_ref import FINETUNED, ModelRef
from magmax_jax.runs.refits import deployed, fitted_at, labels
from magmax_jax.runs.state import refit_shapes, state_shapes
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training import Params

NO_MOMENTS = (
    "Adam's second moments at every task's end are needed, which this run does not keep: run with "
    "adam_weighted among the merges and checkpoint.keep_tasks=True"
)


class ModelStore:
    """The models in a run's `checkpoints/` and `tasks/`.

    Args:
      run: its directory.
      theta_0: the run's start; stored models have its structure.
      merges: all merges of the run.
      refits: likewise.
      layout: where arrays are placed; one device by default.
    """

    def __init__(
        self,
        run: Path,
        theta_0: Params,
        merges: dict[str, Merge],
        layout: Layout | None = None,
        refits: Mapping[str, Refitted] = {},
    ):
        self.run, self.theta_0, self.merges, self.refits = run, theta_0, merges, refits
        self._layout = layout or one_device()

    @cached_property
    def learned(self) -> int:
        """Number of tasks that the last checkpoint had learned when this was first read.

        Raises:
          UserError: there is no checkpoint yet.
        """
        return self._restore(self.run / CHECKPOINTS, ())[1]["learned"]

    @property
    def tasks(self) -> Sequence[int]:
        """Numbers of the tasks whose theta_t is kept, from 1."""
        if not (self.run / TASKS).is_dir():
            return []
        with Checkpoints(self.run / TASKS, keep=None) as checkpoints:
            return checkpoints.numbers

    def finetuned(self) -> Params:
        """theta_t after the last task learned so far."""
        return self._restore(self.run / CHECKPOINTS, (FINETUNED,))[0][FINETUNED]

    def task(self, number: int) -> Params:
        """theta_t after that task, at the precision of the run's `checkpoint.task_bits`.

        Raises:
          UserError: the run has not kept it.
        """
        trees = self._restore(self.run / TASKS, (), number)[0]
        return kept_model(trees, self.theta_0)

    def moments(self, number: int, merges: dict[str, Merge]) -> Params | None:
        """Adam's second moments at the end of that task; None if none of the merges needs them.

        Raises:
          UserError: one does, and the run has not kept them.
        """
        if not needs_moments(merges):
            return None
        trees, note = self._restore(self.run / TASKS, (MOMENTS,), number)
        if MOMENTS not in note:
            raise ConfigError(f"{self.run}: {NO_MOMENTS}")
        return trees[MOMENTS]

    def state(self, name: str, merge: Merge | None = None) -> State:
        """A rule's state after the last task: the run's own, or recomputed from its tasks.

        Args:
          merge: the rule, if it is not one of the run's.

        Raises:
          UserError: the run has neither the state nor every theta_t.
        """
        if name in self.merges:
            return self._restore(self.run / CHECKPOINTS, ("merges",))[0]["merges"][name]
        # A task's model is written before the checkpoint that includes the task.
        learned = range(1, self.learned + 1)
        if merge is None or not learned or not set(learned) <= set(self.tasks):
            raise ConfigError(
                f"{self.run} keeps no state of {name} and not every task's model to make it from: "
                f"choose from {', '.join(self.merges) or 'none'}, or run with "
                "checkpoint.keep_tasks=True"
            )
        state = self._layout.params(merge.rule.init(self.theta_0))
        for number in learned:
            moments = self.moments(number, {name: merge})
            model = informed(merge.rule, self.task(number), moments)
            state = fold(merge.rule, state, model, self.theta_0)
        return state

    def model(self, ref: ModelRef) -> Params:
        """The model with that name.

        Raises:
          UserError: the run has no such model.
        """
        check_model(self.run, ref, self.merges, self.refits)
        if ref.is_zero_shot:
            return self.theta_0
        if ref.is_finetuned:
            return self.finetuned()
        if ref.task is not None:
            return self.task(ref.task)
        merge = self.merges[ref.rule]
        scale = scale_of(ref, merge.rule)
        theta = merged(merge.rule, self.state(ref.rule), self.theta_0, scale)
        if ref.refit is None:
            return theta
        states = self._restore(self.run / CHECKPOINTS, ("refits",))[0]["refits"]
        return deployed(theta, fitted_at(ref.name, states)(scale))

    def _restore(
        self, directory: Path, names: Sequence[str], number: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Named trees of the last checkpoint, or of a kept task; and the note."""
        notes: dict[str, Any] = {}

        def like(note: dict[str, Any]) -> dict[str, Any]:
            notes.update(note)
            trees: dict[str, Any] = {}
            if MOMENTS in names:
                trees |= {MOMENTS: self.theta_0} if MOMENTS in note else {}
            elif number is not None:
                trees |= kept_shapes(self.theta_0, note)
            if FINETUNED in names:
                trees[FINETUNED] = self.theta_0
            if "merges" in names:
                trees["merges"] = state_shapes(self.merges, self.theta_0, note["learned"])
            if "refits" in names:
                trees["refits"] = refit_shapes(self.refits, self.theta_0, note["classes"])
            # Sharded for these devices: the run's own need not be present.
            return self._layout.shapes(trees)

        if directory.is_dir():
            with Checkpoints(directory, keep=None) as checkpoints:
                last = max(checkpoints.numbers, default=None) if number is None else number
                found = checkpoints.restore(like, last) if last in checkpoints.numbers else None
                if found is not None:
                    return found.trees, notes
        what = "checkpoint yet"
        if number is not None:
            what = f"model of task {number} (the first is 1): run with checkpoint.keep_tasks=True"
        raise ConfigError(f"{directory} contains no {what}")


def check_model(
    run: Path, ref: ModelRef, merges: dict[str, Merge], refits: Mapping[str, Refitted] = {}
) -> None:
    """Raises a UserError if a run of these merges cannot hold the model.

    A merge is available at any scale, a refitted one only where the run refitted it.
    """
    if ref.refit is None:
        known = not ref.is_merge or ref.name in merges
    else:
        known = (
            ref.name in refits and scale_of(ref, merges[ref.rule].rule) in refits[ref.name].scales
        )
    if not known:
        kept = ", ".join([*(f"{name}[@SCALE]" for name in merges), *labels(refits)])
        raise UserError(
            f"{run} contains no model {str(ref)!r}: choose finetuned, zero_shot, task:NUMBER"
            + (f" or one of {kept}" if kept else "")
        )
