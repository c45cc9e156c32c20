"""The state of a run, which determines its remaining steps; saves and restores checkpoints."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from magmax_jax.config import CheckpointConfig
from magmax_jax.evaluation.rows import Row
from magmax_jax.merging import State, task_vector
from magmax_jax.merging.rule import informed
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.checkpoints import KEPT, Checkpoints
from magmax_jax.runs.kept_tasks import kept_bytes
from magmax_jax.runs.merge_specs import Merge, Refitted, needs_moments
from magmax_jax.runs.model_ref import FINETUNED
from magmax_jax.runs.refits import RefitStates
from magmax_jax.runs.refits import beginning as refits_before
from magmax_jax.training import Memory, Params, Regularizer, Trainer, TrainState


class RunState(NamedTuple):
    """A run between two steps.

    Attributes:
      learned: number of tasks learned and folded into every merge.
      theta: the parameters after them.
      states: of the merges, by the rule's name.
      memory: the regularizer's.
      refits: states of refitted merges.
      training: of the next task, once it has begun; and `data`, Grain's state of its batches.
      step: number of its steps that are done.
      rows: written by the time of the checkpoint.
    """

    learned: int
    theta: Params
    states: dict[str, State]
    memory: Memory
    refits: RefitStates
    training: TrainState | None = None
    data: Any = None
    step: int = 0
    rows: tuple[Row, ...] = ()


def beginning(parts: RunParts) -> RunState:
    """The state before the first task."""
    theta_0, layout = parts.theta_0, parts.layout
    states = {name: layout.params(m.rule.init(theta_0)) for name, m in parts.merges.items()}
    refits = layout.replicate(refits_before(parts.refits, theta_0, parts.head.shape[1]))
    memory = layout.params(parts.regularizer.init(theta_0))
    return RunState(0, theta_0, states, memory, refits)


def save(checkpoints: Checkpoints, parts: RunParts, standing: RunState) -> None:
    """Starts writing a checkpoint; its number counts the run's steps and tasks."""
    checkpoints.save(
        steps_done(parts, standing) + standing.learned,
        _trees(standing),
        {
            "learned": standing.learned,
            "step": standing.step,
            "data": standing.data,
            "classes": parts.head.shape[1],
            "rows": [row.record for row in standing.rows],
        },
    )


def steps_done(parts: RunParts, standing: RunState) -> int:
    """Number of steps done in the whole run."""
    return sum(parts.steps(task) for task in range(1, standing.learned + 1)) + standing.step


def restore(checkpoints: Checkpoints, parts: RunParts) -> RunState | None:
    """The state at the last intact checkpoint, None if there is no checkpoint.

    Raises:
      UserError: there are checkpoints, but none of them can be read.
    """

    def like(note: dict[str, Any]) -> dict[str, PyTree]:
        return parts.layout.shapes(shapes(parts, note["learned"], note["step"] > 0))

    found = checkpoints.restore(like)
    if found is None:
        return None
    trees, note = found.trees, found.note
    return RunState(
        learned=note["learned"],
        theta=trees[FINETUNED],
        states=trees["merges"],
        memory=trees["memory"],
        training=trees["training"],
        data=note["data"],
        step=note["step"],
        refits=trees["refits"],
        rows=tuple(Row(**row) for row in note["rows"]),
    )


def shapes(parts: RunParts, learned: int, training: bool) -> dict[str, PyTree]:
    """The trees of a checkpoint as `jax.ShapeDtypeStruct`s."""
    return abstract_trees(
        parts.theta_0,
        parts.merges,
        parts.regularizer,
        parts.trainer,
        learned,
        training,
        refit_shapes(parts.refits, parts.theta_0, parts.head.shape[1]),
    )


def abstract_trees(
    theta: Params,
    merges: dict[str, Merge],
    regularizer: Regularizer,
    trainer: Trainer,
    learned: int,
    training: bool,
    refits: RefitStates,
) -> dict[str, PyTree]:
    """The trees of a checkpoint as `jax.ShapeDtypeStruct`s; uses only the shapes of `theta`.

    Args:
      refits: `refit_shapes`.
    """
    theta = jax.eval_shape(lambda tree: tree, theta)
    return _trees(
        RunState(
            learned=learned,
            theta=theta,
            states=state_shapes(merges, theta, learned),
            memory=jax.eval_shape(regularizer.init, theta),
            training=jax.eval_shape(trainer.init, theta) if training else None,
            refits=refits,
        )
    )


def state_shapes(merges: dict[str, Merge], theta: Params, learned: int) -> dict[str, State]:
    """Shapes of the merges' states after `learned` tasks; those of collecting rules grow."""
    states, tau = {}, jax.eval_shape(task_vector, theta, theta)
    for name, (rule, _) in merges.items():
        states[name] = jax.eval_shape(rule.init, theta)
        for _ in range(0 if rule.streaming else learned):
            states[name] = jax.eval_shape(rule.update, states[name], informed(rule, tau, tau))
    return states


def refit_shapes(refits: Mapping[str, Refitted], theta: Params, classes: int) -> RefitStates:
    """Shapes of the states of refitted merges, after any number of tasks.

    Args:
      classes: number of classes in the head.
    """
    return jax.eval_shape(lambda tree: refits_before(refits, tree, classes), theta)


def bytes_needed(parts: RunParts) -> int:
    """Upper bound on the bytes of a whole run's checkpoints, including one being written."""
    largest = shapes(parts, len(parts.tasks), training=True)
    moments = needs_moments(parts.merges)
    return bytes_of(largest, parts.config.checkpoint, len(parts.tasks), moments)


def bytes_of(
    largest: dict[str, PyTree], config: CheckpointConfig, tasks: int, moments: bool
) -> int:
    """Bytes of all checkpoints of a run with `tasks` tasks, given the trees of the largest.

    Args:
      moments: whether tasks are kept with Adam's second moments.
    """
    each = 0
    if config.keep_tasks:
        each = kept_bytes(largest[FINETUNED], config.task_bits, moments)
    return (KEPT + 1) * tree_bytes(largest) + tasks * each


def _trees(standing: RunState) -> dict[str, PyTree]:
    return {
        FINETUNED: standing.theta,
        "merges": standing.states,
        "memory": standing.memory,
        "training": standing.training,
        "refits": standing.refits,
    }
