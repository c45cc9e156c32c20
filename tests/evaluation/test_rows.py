"""Which protocols and top-5 accuracies are worth showing."""

from dataclasses import replace

import pytest

from magmax_jax.evaluation.rows import Row, has_top5, protocols

ROW = Row(0, "zero_shot", None, "agnostic", "all", 0.25, 8)


def twice(*rows: Row) -> list[Row]:
    return [replace(row, protocol=protocol) for protocol in ("agnostic", "aware") for row in rows]


def test_aware_is_shown_unless_it_repeats_agnostic():
    same = twice(ROW, replace(ROW, group="one", accuracy=0.5))
    assert protocols(same) == ("agnostic",)
    later = twice(replace(ROW, after_task=1, model="finetuned", accuracy=0.5))
    differing = [*later[:1], replace(later[1], accuracy=0.625)]
    assert protocols([*same, *later]) == ("agnostic",)
    assert protocols([*same, *differing]) == ("agnostic", "aware")
    assert protocols([]) == protocols([ROW]) == ("agnostic",)


@pytest.mark.parametrize(("classes", "shown"), [(1, False), (4, False), (5, False), (6, True)])
def test_top5_of_five_classes_is_not_shown(classes, shown):
    assert has_top5(classes) is shown
