"""Limits set by a rule's fields: no state in a file, restricted numbers of models."""

from typing import TYPE_CHECKING

from magmax_jax.errors import UserError, counted
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.state import MergeHistory

if TYPE_CHECKING:
    from magmax_jax.merging import MergeRule


def check_state_possible(name: str, rule: "MergeRule") -> None:
    """Raises a UserError for rules whose state does not split into states of single tensors."""
    if not rule.streaming:
        raise UserError(f"{name} needs all models at once: it has no state to keep in a file")
    if rule.survey or rule.settle:
        raise UserError(
            f"{name} takes numbers from all tensors together, which a state file cannot keep: "
            "merge all models at once, without --state, or give it the numbers (--options)"
        )
    if rule.scope == "model":
        raise UserError(
            f"{name} does not declare that it works tensor by tensor (MergeRule.scope), as the "
            "state in a file must: merge all models at once, without --state"
        )


def unfit_models(job: Job, history: MergeHistory, rule: "MergeRule") -> list[str]:
    """A problem if the rule does not take these models."""
    name, tasks = history.rule, len(history.tasks) + len(job.finetuned)
    most = rule.most_models
    if rule.needs_fisher:
        what = "second moments of Adam" if rule.from_adam else "Fisher"
        return [f"{name} needs every model's {what}, which no checkpoint holds: use the library"]
    if rule.per_model and job.state:
        if most is None or tasks <= most:
            return []
        return [
            f"{job.state} has {most} {rule.per_model} for {counted(tasks, 'task')}, which are "
            "fixed when it is created: start a new state with one for each task to come"
        ]
    # Only a state may have more of them, for later tasks.
    if rule.per_model and tasks != most:
        return [
            f"--options: {rule.per_model} has {counted(most or 0, 'value')} for "
            f"{counted(tasks, 'model')}: give one for each"
        ]
    if not rule.admits(tasks):
        return [f"{name} merges {rule.admitted} models, not {tasks}"]
    return []
