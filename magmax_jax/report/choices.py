"""A run's rules at their published scales and at those chosen on held-out images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from magmax_jax.evaluation.history import History
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.evaluation.scales import Scales


class Choice(NamedTuple):
    """One rule at both scales. Accuracies are agnostic, on all images, after the last task.

    Attributes:
      published_scale: None if not recorded.
      published_test: accuracy at that scale on test images, None if not measured.
      scale: the chosen one.
      test: accuracy at the chosen scale on test images.
      validation: accuracy at the chosen scale on the held-out images.
    """

    rule: str
    published_scale: float | None
    published_test: float | None
    scale: float
    test: float
    validation: float

    @property
    def label(self) -> str:
        """Label of the merge at the chosen scale, as in `Row.label`."""
        return f"{self.rule}@{self.scale:g}"

    @property
    def published_label(self) -> str:
        """The same at the published scale."""
        return f"{self.rule}@{self.published_scale:g}"


def choices(scales: Scales, beside: Mapping[str, History]) -> Sequence[Choice]:
    """The choices of a run, in the order in which its rules were tried.

    Args:
      beside: histories among all classes of the rows that `Scales.beside` returns.
    """
    known = {label: last_accuracy(history, weighted=True) for label, history in beside.items()}
    validated = {
        (row.model, row.scale): row.accuracy
        for row in scales.swept
        if (row.split, row.group, row.protocol) == ("validation", "all", "agnostic")
    }
    found = []
    for rule, scale in scales.chosen.items():
        if f"{rule}@{scale:g}" not in known or (rule, scale) not in validated:
            continue  # a damaged file
        published = scales.published.get(rule)
        found.append(
            Choice(
                rule=rule,
                published_scale=published,
                published_test=None if published is None else known.get(f"{rule}@{published:g}"),
                scale=scale,
                test=known[f"{rule}@{scale:g}"] or 0.0,
                validation=validated[rule, scale],
            )
        )
    return found
