"""Whether a run has all of its rows."""

from collections.abc import Callable, Sequence

from magmax_jax.config import ExperimentConfig
from magmax_jax.evaluation.history import task_names
from magmax_jax.evaluation.rows import Row


def is_whole(
    config: ExperimentConfig,
    models: int,
    rows: Sequence[Row],
    swept: Callable[[], Sequence[Row]],
) -> bool:
    """Whether a run has all of its rows (`RunDirectory.is_complete`).

    Args:
      rows, swept: of its `results.jsonl` and `sweep.jsonl`; the latter is read only if needed.
    """
    different = set(rows)
    first = [row for row in different if row.after_task == 0]
    tasks = 1 if config.method.joint else len(task_names(first))
    rounds = len(config.evaluated_after(tasks))
    whole = bool(first) and len(different) == len(first) * (1 + rounds * models)
    return whole and has_chosen(config, tasks, swept)


def has_chosen(config: ExperimentConfig, tasks: int, swept: Callable[[], Sequence[Row]]) -> bool:
    """Whether every merge has a chosen scale; True if `merging.scales` does not ask for any.

    Args:
      tasks: number of tasks that the run learns.
      swept: as in `is_whole`.
    """
    if config.merging.scales is None or config.method.joint:
        return True
    chosen = {row.model for row in swept() if row.chosen and row.after_task == tasks}
    return {merge.partition("@")[0] for merge in config.merges} <= chosen
