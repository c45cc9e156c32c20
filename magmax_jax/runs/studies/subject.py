"""A run as studies see it: its parts, its models, and the names of their parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.evaluation.counts import Counts
from magmax_jax.evaluation.rows import Row
from magmax_jax.merging import merged, task_vector
from magmax_jax.models import Place, trainable
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.evaluation_set import EvaluationSet
from magmax_jax.runs.model_ref import FINETUNED
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import Progress
from magmax_jax.scenarios import Scenario
from magmax_jax.training import Params

Record = dict[str, Any]
"""A flat line of JSON."""


class Unsuited(UserError):
    """A study does not apply to the run; the message says why."""


@dataclass(frozen=True)
class Subject:
    """A run under study.

    Attributes:
      parts: of the run.
      stored: its models.
      rows: of its evaluations.
      learned: number of tasks that its last checkpoint has learned.
      progress: shows evaluations.
      exclude: patterns of Hugging Face's parameter names, whose changes are left out when task
        vectors themselves are compared.
      others: further data sets by name, for `transfer`.
    """

    parts: RunParts
    stored: ModelStore
    rows: Sequence[Row]
    learned: int
    progress: Progress
    exclude: tuple[str, ...] = ()
    others: Mapping[str, Scenario] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the tasks learned so far."""
        return [task.name for task in self.parts.tasks[: self.learned]]

    def check_tasks(self) -> None:
        """Raises an Unsuited unless the run keeps theta_t of every task learned so far."""
        if not set(range(1, self.learned + 1)) <= set(self.stored.tasks):
            raise Unsuited(
                f"{self.stored.run} does not keep every task's model: run it with "
                "--checkpoint.keep-tasks"
            )

    def tau(self, task: int) -> Params:
        """tau_t = theta_t - theta_0."""
        return _task_vector(self.stored.task(task), self.parts.theta_0)

    def taus(self) -> Iterator[Params]:
        """tau_1, tau_2, ..., without excluded entries; one in memory at a time."""
        for task in range(1, self.learned + 1):
            yield self.leave_out(self.tau(task))

    def merged_tau(self, rule: str) -> Params:
        """One of the run's rules applied to all task vectors, without excluded entries."""
        state = self.stored.state(rule)
        return self.leave_out(self.parts.merges[rule].rule.finalize(state))

    def models(self) -> Iterator[tuple[str, float | None, Params]]:
        """The last fine-tuned model and every merge, with their scales."""
        yield FINETUNED, None, self.stored.finetuned()
        for name, merge in self.parts.merges.items():
            state = self.stored.state(name)
            for scale in merge.scales:
                yield name, scale, merged(merge.rule, state, self.parts.theta_0, scale)

    def count(self, images: EvaluationSet, params: Params, shown: str) -> Counts:
        """A model's counts on images."""
        (counts,) = images.counts_of([params], self.progress, shown)
        return counts

    def leave_out(self, tau: Params) -> Params:
        """A task vector with zeros for excluded entries.

        Raises:
          UserError: a pattern matches nothing, or together they match everything.
        """
        return tau if self.kept is None else _masked(tau, self.kept)

    @cached_property
    def kept(self) -> Params | None:
        """Bools that broadcast to a task vector, False for excluded entries; None for all True.

        Raises:
          UserError: a pattern matches nothing, or together they match everything.
        """
        return trainable(self.parts.shape, self.parts.theta_0, self.exclude, "--exclude")

    def place_of(self, leaf: str) -> Place:
        """A task vector leaf's place in the model, by its name in `analysis`."""
        return self.parts.shape.place_of(leaf.removesuffix(".value"))


_task_vector = jax.jit(task_vector)


@jax.jit
def _masked(tau: Params, kept: Params) -> Params:
    return jax.tree.map(lambda x, keep: jnp.where(keep, x, 0), tau, kept)
