"""Scales of merges: the one chosen on held-out images, and the published one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from magmax_jax.evaluation.rows import Row, decides

PUBLISHED, CHOSEN = "published", "chosen"


@dataclass(frozen=True)
class Scales:
    """The scales of a run's merges after the last task."""

    swept: Sequence[Row]
    """The rows of `sweep.jsonl`."""
    published: Mapping[str, float]
    """Rule -> its default scale, which is the published one unless the rule is user-defined."""

    @cached_property
    def chosen(self) -> dict[str, float]:
        """Rule -> the scale that is best on its held-out images."""
        return {row.model: row.scale for row in self.swept if row.chosen and row.scale is not None}

    @property
    def images(self) -> int:
        """Number of held-out training images used for choosing; 0 if there are none."""
        counts = (r.count for r in self.swept if (r.split, r.group) == ("validation", "all"))
        return max(counts, default=0)

    def best(self, apart: bool) -> str | None:
        """The rule that is best on held-out images at its chosen scale; None if none was chosen.

        Args:
          apart: see `evaluation.rows.decides`.
        """
        found = best_on_validation(self.swept, apart)
        measured = [name for name in self.chosen if name in found]  # not all in a damaged file
        return max(measured, key=lambda name: found[name].accuracy, default=None)

    def kind(self, label: str) -> str:
        """The origin of a model's scale, by label (`Row.label`): "published", "chosen", or both;
        "" for other models, and if no scale was chosen."""
        kinds = {PUBLISHED: self.published, CHOSEN: self.chosen} if self.chosen else {}
        return ", ".join(
            word
            for word, scales in kinds.items()
            if label in {f"{rule}@{scale:g}" for rule, scale in scales.items()}
        )

    def beside(self, rows: Sequence[Row]) -> list[Row]:
        """A run's rows, with those of every chosen scale and its rule's published one added.

        They follow the rows of the same rule. Rules without a chosen scale get no added rows.

        Args:
          rows: of `results.jsonl`.
        """
        last = max((row.after_task for row in rows), default=0)
        known = {(row.model, row.scale) for row in rows if row.after_task == last}
        added = [
            replace(row, chosen=None)
            for row in self.swept
            if row.model in self.chosen
            and (row.split, row.after_task) == ("test", last)
            and row.scale in (self.chosen[row.model], self.published.get(row.model))
            and (row.model, row.scale) not in known
        ]
        models = dict.fromkeys(row.model for row in (*rows, *added))
        places = {model: place for place, model in enumerate(models)}
        return sorted((*rows, *added), key=lambda row: places[row.model])


NO_SCALES = Scales([], {})
"""For a run without chosen scales."""


def choose(rows: Sequence[Row], apart: bool) -> list[Row]:
    """The rows, with each rule's best scale on validation images marked in its test rows.

    The best scale has the highest accuracy; ties go to the one closest to 0.

    Args:
      apart: see `evaluation.rows.decides`.
    """
    chosen = {(row.model, row.scale) for row in best_on_validation(rows, apart).values()}

    def marked(row: Row) -> Row:
        is_best = row.split == "test" and (row.model, row.scale) in chosen
        return replace(row, chosen="validation" if is_best else None)

    return [marked(row) for row in rows]


def describe(
    rows: Sequence[Row], apart: bool, published: Mapping[str, float] | None = None
) -> Iterator[str]:
    """A sentence for each rule of a sweep: the chosen scale and its result.

    Args:
      apart: see `evaluation.rows.decides`.
      published: rule -> its published scale, whose accuracy is given next to the chosen one's.
    """
    measure = "mean of the data sets" if apart else "agnostic"
    tested = {(found.model, found.scale): found for found in _found(rows, "test", apart)}
    validated = best_on_validation(rows, apart)
    on_test = _best(rows, "test", apart)
    for model in {**on_test, **validated}:
        if model not in validated:
            best = on_test[model]
            yield (
                f"{model}: scale {best.scale:g} is best ({best.accuracy:.1%}, {measure}), but was "
                "picked on test images, so do not report it; run again with "
                "--scenario.validation 0.1"
            )
            continue
        seen = validated[model]
        sentence = (
            f"{model}: scale {seen.scale:g} is best on {seen.images:,} validation images "
            f"({seen.accuracy:.1%}, {measure})"
        )
        if (model, seen.scale) not in tested:  # not yet evaluated on test images
            yield sentence
            continue
        sentence += f"; {tested[model, seen.scale].accuracy:.1%} on the test images"
        beside = (published or {}).get(model)
        if beside == seen.scale:
            sentence += ", and it is the published scale"
        elif beside is not None and (model, beside) in tested:
            known = tested[model, beside].accuracy
            sentence += f", {known:.1%} at the published scale of {beside:g}"
        yield sentence


class Found(NamedTuple):
    """The result by which one scale of a rule is judged.

    Attributes:
      accuracy: in [0, 1], the deciding measure.
      images: number of images on which it was measured.
    """

    model: str
    scale: float
    accuracy: float
    images: int


def best_on_validation(rows: Sequence[Row], apart: bool) -> dict[str, Found]:
    """By rule, the scale with the highest accuracy on held-out images; ties go to the one
    closest to 0.

    Args:
      apart: see `evaluation.rows.decides`.
    """
    return _best(rows, "validation", apart)


def best_scale(accuracies: Mapping[float, float]) -> float:
    """The scale with the highest accuracy; ties go to the one closest to 0, i.e. to theta_0."""
    nearest_first = sorted(accuracies, key=lambda scale: (abs(scale), scale))
    return max(nearest_first, key=lambda scale: accuracies[scale])


def _found(rows: Sequence[Row], split: str, apart: bool) -> Iterator[Found]:
    """One result for each rule and scale."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row.split == split and row.scale is not None and decides(row, apart):
            groups.setdefault((row.model, row.scale), []).append(row)
    for (model, scale), parts in groups.items():
        mean = sum(row.accuracy for row in parts) / len(parts)
        yield Found(model, scale, mean, sum(row.count for row in parts))


def _best(rows: Sequence[Row], split: str, apart: bool) -> dict[str, Found]:
    """By rule, the scale with the highest accuracy on images of the split."""
    tried: dict[str, dict[float, Found]] = {}
    for found in _found(rows, split, apart):
        tried.setdefault(found.model, {})[found.scale] = found

    def best(scales: Mapping[float, Found]) -> Found:
        return scales[best_scale({scale: found.accuracy for scale, found in scales.items()})]

    return {model: best(scales) for model, scales in tried.items()}
