"""Passes over whole task vectors before a merge, for global statistics."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.digest import Digest
from magmax_jax.io.safetensors.reader import Reader
from magmax_jax.merge_files.drawing import draws
from magmax_jax.merge_files.groups import groups
from magmax_jax.merge_files.outcome import differences
from magmax_jax.merge_files.passes import each_chunk
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, Result, chunk_task_vectors, stacked
from magmax_jax.merge_files.trimming import Rows, rows_of, thresholds
from magmax_jax.merge_files.whole_tensors import Tree, read_group
from magmax_jax.merging import count_at_least, kth_magnitudes_counted
from magmax_jax.merging.numerics.host_selection import between
from magmax_jax.merging.numerics.over_tasks import EachTask, each

SAMPLES, SAMPLE_LENGTH, SAMPLE_STRIDE = 256, 1 << 12, 1 << 4
"""A sample: approximate number of places, entries at each, and the stride between those taken."""


def surveyed(plan: Plan, digests: Sequence[Digest] = ()) -> Plan:
    """The plan with its rule completed by the rule's survey, if it has one.

    Args:
      digests: of the sources; fed with what whole passes read.

    Raises:
      UserError: an input is not finite, a file has shrunk, or the survey does not complete the
        rule.
    """
    trims, thins, survey = plan.rule.trims, plan.thins, plan.rule.survey
    if plan.rule.scope == "model" or not (trims or thins or survey):
        return plan
    with Reader(digests) as reader:
        if trims:
            plan = dataclasses.replace(plan, least=thresholds(plan, reader, trims))
            rule = trims.rule(len(plan.models), FileTaskVectors(plan, reader).total)
        elif thins:
            plan = dataclasses.replace(plan, least=draws(plan, reader, thins))
            rule = thins.rule
        elif survey:
            rule = survey(FileTaskVectors(plan, reader))
    if rule.survey is not None:
        raise UserError(
            f"the survey of {plan.history.rule} returns a rule that needs a survey again: return "
            "one whose `survey` is None"
        )
    return dataclasses.replace(plan, build=lambda: rule)


class FileTaskVectors:
    """The task vectors of a plan's models, read in passes: a `merging.TaskVectors`.

    `total` uses the trimmed ones if the plan has thresholds for every tensor.
    """

    def __init__(self, plan: Plan, reader: Reader):
        self._plan, self._reader = plan, reader

    @property
    def count(self) -> int:
        return len(self._plan.models)

    @property
    def size(self) -> int:
        return sum(self._plan.pretrained.tensors[name].size for name in self._plan.merged)

    def kth_magnitudes(self, k: int) -> list[float]:
        def count(pivots: jax.Array) -> np.ndarray:
            def part(chunk: Chunk) -> np.ndarray:
                theta_0, *thetas = chunk.arrays
                return np.asarray(_count(pivots, theta_0, *stacked(thetas)))

            total = np.zeros(pivots.shape, np.int64)
            # A chunk's padding is zero, which is below every pivot.
            for found in self._pass(part):
                total += found
            return total

        def collect(low: np.ndarray, high: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
            def part(chunk: Chunk) -> list[tuple[int, np.ndarray]]:
                theta_0, *thetas = (array[: chunk.size] for array in chunk.arrays)
                taus = differences(theta_0, thetas)
                return [
                    between(np.abs(tau, out=tau).view(np.int32), a, b)
                    for tau, a, b in zip(taus, low, high, strict=True)
                ]

            own = [list(zip(*one, strict=True)) for one in zip(*self._pass(part), strict=True)]
            return [sum(below) for below, _ in own], [np.concatenate(bits) for _, bits in own]

        def sample(chunk: Chunk) -> list[np.ndarray]:
            part = slice(0, chunk.size, SAMPLE_STRIDE)
            theta_0, *thetas = (array[part] for array in chunk.arrays)
            return differences(theta_0, thetas)

        every = max(1, self.size // (SAMPLES * SAMPLE_LENGTH))
        parts = zip(*self._pass(sample, SAMPLE_LENGTH, every), strict=True)
        samples = [np.concatenate(own) for own in parts]
        found = kth_magnitudes_counted(count, self.size, k, samples, collect)
        return found.tolist()

    def total(self, function: Callable[[EachTask], jax.Array]) -> np.ndarray:
        least, total = self._plan.least, np.zeros((), np.int64)

        @jax.jit
        def compiled(rows: Rows | None, theta_0: jax.Array, *thetas: jax.Array) -> jax.Array:
            taus = chunk_task_vectors(theta_0, thetas)
            if rows is None:
                return function(taus)
            if isinstance(taus, jax.Array):
                return function(each(rows.thin, jnp.arange(len(taus)), taus))
            return function(tuple(rows.thin(task, tau) for task, tau in enumerate(taus)))

        def counted(chunk: Chunk) -> np.ndarray:
            rows, size = (rows_of(chunk, least), None) if least else (None, chunk.size)
            # Without rows, also without the padding, so that `function` may count zeros.
            theta_0, *thetas = (array[:size] for array in chunk.arrays)
            return np.asarray(compiled(rows, theta_0, *stacked(thetas)))

        for found in self._pass(counted):
            if not np.issubdtype(found.dtype, np.integer):
                raise TypeError(f"the function of `total` gives {found.dtype}, not integers")
            total = total + found.astype(np.int64)
        return total

    def tensors(self) -> Iterator[tuple[Tree, Iterator[Tree]]]:
        plan = self._plan
        for name in sorted(plan.merged):  # as the leaves of a dict
            theta_0, taus = read_group(
                plan.pretrained, plan.models, [name], self._reader, plan.rule
            )
            yield _first(theta_0), map(_first, taus)

    def stacks(self) -> Iterator[tuple[Sequence[str], Tree, Iterator[Tree]]]:
        plan = self._plan
        for names in groups(plan):
            yield names, *read_group(plan.pretrained, plan.models, names, self._reader, plan.rule)

    def _pass(
        self, function: Callable[[Chunk], Result], length: int | None = None, every: int = 1
    ) -> Iterator[Result]:
        return each_chunk(self._plan, self._reader, function, length, every)


def _first(tree: Tree) -> Tree:
    return jax.tree.map(lambda stack: stack[0], tree)


@jax.jit
def _count(pivots: jax.Array, theta_0: jax.Array, *thetas: jax.Array) -> jax.Array:
    """Number of entries of each task vector that reach each of its pivots: int32 (t, p)."""
    return each(count_at_least, chunk_task_vectors(theta_0, thetas), pivots)
