"""The rows of `sweep.jsonl`: merges at many scales after the last task."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property, partial

import jax

from magmax_jax.evaluation.rows import rows_of
from magmax_jax.evaluation.scales import best_on_validation, choose
from magmax_jax.merging import apply_task_vector
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.evaluation_set import EvaluationSet
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.shared_pass import count_all, models_held
from magmax_jax.training import Params


class SweptRows:
    """Collects the rows of evaluations; does not repeat existing ones.

    Args:
      parts: of the run.
      out: its directory.
      learned: number of tasks so far; rows for other numbers of tasks are dropped.
      at_once: models evaluated in one pass; None for as many as fit.
      watched: see `count_all`.
    """

    def __init__(
        self,
        parts: RunParts,
        out: RunDirectory,
        learned: int,
        progress: Progress,
        at_once: int | None = None,
        watched: Callable[[Iterable], Iterable] = iter,
    ):
        self._parts, self._out, self._learned = parts, out, learned
        self._progress, self._at_once, self._watched = progress, at_once, watched
        self.apart = SCENARIO_KINDS[parts.config.scenario.kind].task_aware
        """Whether tasks have separate heads: see `evaluation.rows.decides`."""
        self.rows = [row for row in out.swept() if row.after_task == learned]

    @cached_property
    def sets(self) -> dict[str, EvaluationSet]:
        """Test images, and validation images if tasks hold some out."""
        validation = self._parts.validation()
        test = {"test": self._parts.test}
        return test if validation is None else {**test, "validation": validation}

    def add(
        self, name: str, at: Callable[[float], Params], split: str, scales: Sequence[float]
    ) -> None:
        """Evaluates a rule at those scales that a split's rows lack.

        Args:
          at: maps a scale to the merged model.
        """
        there = {row.scale for row in self.rows if (row.model, row.split) == (name, split)}
        missing = [scale for scale in dict.fromkeys(scales) if scale not in there]
        if not missing:
            return
        images = self.sets[split]
        at_once = self._at_once or models_held(self._parts.theta_0, self._parts.layout)
        models = {str(ModelRef(name, scale)): partial(at, scale) for scale in missing}
        counts = count_all(models, images, at_once, self._progress, self._watched)
        for scale, counted in zip(missing, counts, strict=True):
            self.rows += rows_of(counted, images.scenario, self._learned, name, scale, split)

    def chosen(self, name: str) -> float:
        """A rule's best scale among those evaluated on validation images."""
        return best_on_validation(self.rows, self.apart)[name].scale

    def write(self) -> None:
        """Marks the chosen scales and writes all rows."""
        self.rows = choose(self.rows, self.apart)
        self._out.keep_swept(self.rows)


def scaled(theta_0: Params, tau: Callable[[], Params]) -> Callable[[float], Params]:
    """Maps a scale to theta_0 + scale tau; tau is computed once, lazily."""
    made = cache(tau)
    return lambda scale: _model(theta_0, made(), scale)


_model = jax.jit(apply_task_vector)
