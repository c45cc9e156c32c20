"""Exact counts of an evaluation's predictions, on the host.

Letters in shapes: k classes, t tasks, n domains, m pairs.
"""

import math
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:  # files of counts are read without JAX
    from magmax_jax.scenarios import Scenario

Array = TypeVar("Array")


class Predicted(NamedTuple, Generic[Array]):
    """What a model predicts for images, int32 (images,) each, on the devices or the host.

    Attributes:
      index: position in the scenario's test source, -1 in padding.
      prediction: the most likely class among all.
      agnostic: number of classes ranked before the label among all classes.
      aware: the same among the classes of the image's task.
    """

    index: Array  # type: ignore[assignment]  # the usual name; tuple.index is not called
    prediction: Array
    agnostic: Array
    aware: Array


class Counts(NamedTuple):
    """Exact counts of samples, int32, without padding.

    All but `confusions` are (t, 1 + n, k): by task, by domain (first none, then n), by class;
    counts of any group are marginals of them.

    Attributes:
      agnostic: correct when the argmax ranges over every class of the scenario.
      aware: correct when it ranges over the classes of the sample's task.
      agnostic_top5, aware_top5: the label is among the five most likely of these classes.
      total: samples.
      confusions: (m, 3), [label, prediction among all classes, samples] for every pair that occurs,
        in ascending order; m is at most the number of samples.
    """

    agnostic: np.ndarray
    aware: np.ndarray
    agnostic_top5: np.ndarray
    aware_top5: np.ndarray
    total: np.ndarray
    confusions: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        """`confusions` as a matrix, built at each call: int32 (k, k), label by prediction."""
        return as_matrix(self.confusions, self.total.shape[-1])

    @classmethod
    def of(cls, predicted: Predicted[np.ndarray], scenario: "Scenario") -> "Counts":
        """The counts of some of a scenario's test images."""
        index, prediction, agnostic, aware = (each[predicted.index >= 0] for each in predicted)
        label, shape = scenario.test.labels[index], groups_shape(scenario)
        group = scenario.task_of[index], 1 + scenario.domain_of[index], label
        at = np.ravel_multi_index(group, shape)

        def count(places: np.ndarray) -> np.ndarray:
            found = np.bincount(places, minlength=math.prod(shape))
            return found.reshape(shape).astype(np.int32)

        pairs, samples = np.unique(label * np.int64(shape[-1]) + prediction, return_counts=True)
        confusions = np.column_stack([*divmod(pairs, shape[-1]), samples])
        return cls(
            agnostic=count(at[agnostic < 1]),
            aware=count(at[aware < 1]),
            agnostic_top5=count(at[agnostic < 5]),
            aware_top5=count(at[aware < 5]),
            total=count(at),
            confusions=confusions.astype(np.int32),
        )


def groups_shape(scenario: "Scenario") -> tuple[int, int, int]:
    """(t, 1 + n, k), the shape of counts by task, domain and class."""
    return len(scenario.tasks), 1 + len(scenario.domain_names), scenario.num_classes


def as_matrix(confusions: np.ndarray, classes: int) -> np.ndarray:
    """(k, k) samples by label and prediction, of the dtype of `confusions` (m, 3)."""
    label, prediction, samples = confusions.T
    matrix = np.zeros((classes, classes), confusions.dtype)
    matrix[label, prediction] = samples
    return matrix


def as_pairs(matrix: np.ndarray) -> np.ndarray:
    """int64 (m, 3), as `Counts.confusions`: the entries of a matrix (k, k) that are not 0."""
    label, prediction = np.nonzero(matrix)  # in ascending order
    return np.column_stack([label, prediction, matrix[label, prediction].astype(np.int64)])
