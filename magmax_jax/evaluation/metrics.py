"""Metrics of learning and forgetting from a run's accuracies, with the definitions' sources.

Each metric is an entry of `registry.METRICS`. To add one, register a `Metric` with a function of a
`History`; it then appears in the report, its CSV files and the choices of `magmax table --metric`.

Notation: a_(t,i) is the accuracy on task i after t tasks, of T tasks; a_(0,i) is zero-shot; n_i is
the number of test images of task i. Every mean over tasks comes in two weightings: weighted by n_i
(each image counts the same) or not (each task counts the same, as in most papers).

Accuracies are of one protocol. 'agnostic' ranges over all classes of the scenario, including those
yet to come, whereas papers on class-incremental learning range over the classes seen so far: the
two agree only after the last task.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from magmax_jax.evaluation.history import History
from magmax_jax.registry import METRICS


class Both(NamedTuple):
    """A metric in both weightings, None if it is not defined.

    Attributes:
      weighted: every test image counts the same.
      task_mean: every task counts the same.
    """

    weighted: float | None
    task_mean: float | None


@dataclass(frozen=True)
class Metric:
    """A metric of one model over a run: an entry of `registry.METRICS`."""

    title: str
    """For a table's heading, without the unit."""
    unit: str
    """`%` for a share in [0, 1], `points` for a difference of shares: 100 times it is shown."""
    definition: str
    """Its definition and source, as a clause that follows the title and a colon."""
    function: Callable[..., float | None]
    """`function(history, weighted=...)`, or `function(history, independent, weighted=...)` if it
    `needs_independent`; returns None if the metric is not defined."""
    weighted: bool = False
    """Whether papers weight it by images; if not, every task counts the same."""
    needs_independent: bool = False
    """Whether it compares with `finetuned` from a run with method.sequential off."""
    flag: str = ""
    """Its name on command lines; by default its registered name."""

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}"

    def value(
        self, history: History, weighted: bool, independent: History | None = None
    ) -> float | None:
        """The metric of a model; None if it is not defined.

        Args:
          history: of the model.
          weighted: every test image counts the same, else every task.
          independent: of `finetuned` in a run of the same tasks with method.sequential off.
        """
        if not self.needs_independent:
            return self.function(history, weighted=weighted)
        if independent is None:
            return None
        return self.function(history, independent, weighted=weighted)


def measure(history: History, independent: History | None = None) -> dict[str, Both]:
    """Every metric of one model by its name, in both weightings.

    Args:
      history: of the model.
      independent: of `finetuned` in a run of the same tasks with method.sequential off, which some
        metrics compare with.
    """
    return {
        name: Both(*(metric.value(history, weighted, independent) for weighted in (True, False)))
        for name, metric in METRICS.items()
    }


def last_accuracy(history: History, weighted: bool) -> float | None:
    """Accuracy on all T tasks at the latest evaluation, which is A_T once the run is finished.

        A_T = sum_i n_i a_(T,i) / sum_i n_i                 weighted
        A_T = 1/T sum_i a_(T,i)                             else

    Weighted, it is the accuracy on all test images, which MagMax reports (Marczak et al., 2024,
    arXiv 2407.06322); the mean over tasks is ACC of Lopez-Paz & Ranzato, 2017 (arXiv 1706.08840).
    For the zero-shot model and joint training it is the accuracy of the only model.

    Returns:
      A_T in [0, 1], or None if nothing was measured.
    """
    at = history.learned
    if weighted:
        return None if np.isnan(history.overall[at]) else float(history.overall[at])
    return _mean(history.accuracy[at], history.counts, weighted)


def average_accuracy(history: History, after: int, weighted: bool) -> float | None:
    """Accuracy after `after` tasks on these tasks, without those to come.

        A_t = 1/t sum_(i<=t) a_(t,i)

    Chaudhry et al., 2018 (arXiv 1801.10112), average accuracy; weighted by n_i it is the accuracy
    on all test images of the tasks seen, as in iCaRL and PILOT (mammoth takes the mean over tasks).

    Returns:
      A_t in [0, 1], or None if the model was not evaluated after that many tasks.
    """
    if not 0 < after < len(history.accuracy):
        return None
    seen = history.first(after)
    return _mean(seen.accuracy[-1], seen.counts, weighted)


def incremental_accuracy(history: History, weighted: bool) -> float | None:
    """Mean of the average accuracy over the whole run.

        1/T sum_t A_t

    Average incremental accuracy of iCaRL (Rebuffi et al., 2017, arXiv 1611.07725). iCaRL and PILOT
    weight A_t by images; mammoth takes the mean over tasks.

    Returns:
      A value in [0, 1], or None for zero-shot, joint training, and a run that is not finished or
      not evaluated after every task.
    """
    if not _is_finished(history):
        return None
    each = [average_accuracy(history, t, weighted) for t in range(1, 1 + len(history.tasks))]
    known = [value for value in each if value is not None]
    return float(np.mean(known)) if len(known) == len(each) else None


def forgetting(history: History, weighted: bool) -> float | None:
    """Mean over all tasks but the last of the best accuracy a task ever had minus its final one.

        F = 1/(T-1) sum_(i<T) f_i        f_i = max_(i<=t<T) a_(t,i) - a_(T,i)

    Chaudhry et al., 2018 (arXiv 1801.10112), eq. 3, whose maximum starts at t = 1: here it starts
    when the task is learned, so that zero-shot luck before that does not count as memory. The
    maximum excludes the final model, so a task that improved counts negatively. In mammoth and
    PILOT the maximum includes it (from t = 1, with 0 for tasks to come), so theirs is never below
    0; Avalanche replaces the maximum by a_(i,i), which gives minus backward transfer. All three
    take the unweighted mean over tasks.

    Returns:
      F in [-1, 1], or None for zero-shot, joint training, fewer than two tasks, and a run that is
      not finished or not evaluated after every task.
    """
    drops = forgetting_by_task(history)
    return None if drops is None else _mean(drops, history.counts[:-1], weighted)


def forgetting_by_task(history: History) -> np.ndarray | None:
    """f_i of `forgetting`, float64 (T - 1,) in [-1, 1] without the last task; None if F is None."""
    last = len(history.tasks)
    if last < 2 or not _is_finished(history):
        return None
    best = [history.accuracy[i:last, i - 1].max() for i in range(1, last)]
    drops = np.asarray(best) - history.accuracy[last, :-1]
    return None if np.isnan(drops).any() else drops


def backward_transfer(history: History, weighted: bool) -> float | None:
    """How much later tasks changed the accuracy that a task had when it was learned.

        BWT = 1/(T-1) sum_(i<T) (a_(T,i) - a_(i,i))

    Lopez-Paz & Ranzato, 2017 (arXiv 1706.08840), as in mammoth and Avalanche. F >= -BWT, because
    F's maximum includes a_(i,i).

    Returns:
      BWT in [-1, 1], negative if tasks were forgotten; None if `forgetting` is None.
    """
    if len(history.tasks) < 2 or not _is_finished(history):
        return None
    change = history.accuracy[-1] - _when_learned(history)
    return _mean(change[:-1], history.counts[:-1], weighted)


def forward_transfer(history: History, weighted: bool) -> float | None:
    """How much earlier tasks changed the accuracy on a task, relative to the pretrained model.

        FWT = 1/(T-1) sum_(i>1) (a_(i-1,i) - a_(0,i))

    Lopez-Paz & Ranzato, 2017 (arXiv 1706.08840), who subtract the accuracy of random weights, as
    mammoth and Avalanche do; here a_(0,i) is the pretrained model's zero-shot accuracy.

    Returns:
      FWT in [-1, 1], negative if zero-shot ability was lost; None if `forgetting` is None.
    """
    if len(history.tasks) < 2 or not _is_finished(history):
        return None
    before = np.diagonal(history.accuracy)[1:]  # a_(i-1,i) for i = 2..T
    change = before - history.accuracy[0, 1:]
    return _mean(change, history.counts[1:], weighted)


def intransigence(history: History, independent: History, weighted: bool) -> float | None:
    """How much worse a model learned each new task than one that learned only that task.

        I = 1/T sum_i (a*_i - a_(i,i))

    a*_i is the accuracy on task i of theta_0 fine-tuned on task i only. Chaudhry et al., 2018
    (arXiv 1801.10112) use for a*_i a model trained jointly on tasks 1..i, and report each i; the
    mean over tasks is ours.

    Args:
      history: of the model.
      independent: of `finetuned` in a run of the same tasks with method.sequential off, whose
        a_(i,i) are the a*_i.

    Returns:
      I in [-1, 1], negative if other tasks helped; None for zero-shot, joint training, an
      unfinished run, or if the two runs differ in their tasks.
    """
    same = history.tasks == independent.tasks and np.array_equal(history.counts, independent.counts)
    if not (same and _is_finished(history) and _is_finished(independent)):
        return None
    lost = _when_learned(independent) - _when_learned(history)
    return _mean(lost, history.counts, weighted)


def _is_finished(history: History) -> bool:
    return bool(history.tasks) and history.learned == len(history.tasks)


def _when_learned(history: History) -> np.ndarray:
    """a_(i,i) for i = 1..T."""
    return np.diagonal(history.accuracy, offset=-1)


def _mean(values: np.ndarray, counts: np.ndarray, weighted: bool) -> float | None:
    """The mean; None if a value is missing, or there are none."""
    if not values.size or np.isnan(values).any():
        return None
    return float(np.average(values, weights=counts if weighted else None))


METRICS.register(
    "last_accuracy",
    Metric(
        title="Last accuracy",
        unit="%",
        definition="on all test images after the last task",
        function=last_accuracy,
        weighted=True,
        flag="last",
    ),
)
METRICS.register(
    "incremental_accuracy",
    Metric(
        title="Incremental accuracy",
        unit="%",
        definition="mean, over the run, of the accuracy on the tasks seen (iCaRL)",
        function=incremental_accuracy,
        weighted=True,
    ),
)
METRICS.register(
    "forgetting",
    Metric(
        title="Forgetting",
        unit="points",
        definition="best accuracy since a task was learned minus the final one, without the last "
        "task (Chaudhry et al., 2018)",
        function=forgetting,
    ),
)
METRICS.register(
    "backward_transfer",
    Metric(
        title="Backward transfer",
        unit="points",
        definition="final accuracy minus that when learned (Lopez-Paz & Ranzato, 2017)",
        function=backward_transfer,
    ),
)
METRICS.register(
    "forward_transfer",
    Metric(
        title="Forward transfer",
        unit="points",
        definition="accuracy just before a task is learned minus zero-shot's (Lopez-Paz & "
        "Ranzato, 2017)",
        function=forward_transfer,
    ),
)
METRICS.register(
    "intransigence",
    Metric(
        title="Intransigence",
        unit="points",
        definition="accuracy that independent fine-tuning has on a new task minus the model's",
        function=intransigence,
        needs_independent=True,
    ),
)
