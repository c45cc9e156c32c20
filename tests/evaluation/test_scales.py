"""Scales chosen on held-out images, next to published ones, from rows with known answers."""

from dataclasses import replace

import pytest

from magmax_jax.evaluation.history import histories
from magmax_jax.evaluation.metrics import forgetting, last_accuracy
from magmax_jax.evaluation.rows import Row
from magmax_jax.evaluation.scales import Scales, choose, describe


def row(model, scale, accuracy, split="test", after=2, group="all", protocol="agnostic"):
    count = 10 if split == "validation" else 20
    return Row(after, model, scale, protocol, group, accuracy, count, None, split)


def evaluation(model, scale, accuracy, after=2):
    return [row(model, scale, accuracy, after=after, group=g) for g in ("all", "one", "two")]


RUN = [
    *evaluation("zero_shot", None, 0.2, after=0),
    *(r for after in (1, 2) for r in evaluation("finetuned", None, 0.4, after)),
    *(r for after in (1, 2) for r in evaluation("average", 1.0, 0.3, after)),
    *(r for after in (1, 2) for r in evaluation("ties", 0.5, 0.6, after)),
]
SWEPT = choose(
    [
        *(row("average", s, a, "validation") for s, a in ((0.3, 0.7), (0.5, 0.9), (1.0, 0.6))),
        *evaluation("average", 0.5, 0.8),
        *evaluation("average", 1.0, 0.3),
        *(row("ties", s, a, "validation") for s, a in ((0.3, 0.7), (0.5, 0.8))),
        *evaluation("ties", 0.5, 0.6),
        *evaluation("emr", 0.7, 0.1),  # not evaluated on held-out images
    ],
    apart=False,
)
SCALES = Scales(SWEPT, {"average": 1.0, "ties": 0.5, "emr": 1.0})


def test_every_scale_states_its_origin():
    assert SCALES.chosen == {"average": 0.5, "ties": 0.5}
    assert SCALES.images == 10
    kinds = {label: SCALES.kind(label) for label in ("average@1", "average@0.5", "average@0.3")}
    assert kinds == {"average@1": "published", "average@0.5": "chosen", "average@0.3": ""}
    assert SCALES.kind("ties@0.5") == "published, chosen"
    assert SCALES.kind("finetuned") == ""


def test_without_chosen_scales_nothing_is_labelled():
    tested = [replace(r, chosen=None) for r in SWEPT if r.split == "test"]
    scales = Scales(tested, {"average": 1.0})
    assert scales.chosen == {} and scales.images == 0
    assert scales.kind("average@1") == "" and scales.beside(RUN) == RUN
    assert scales.best(apart=False) is None


def test_chosen_scales_follow_their_rule_and_are_known_only_in_the_end():
    found = histories(SCALES.beside(RUN), "agnostic")
    assert list(found) == ["zero_shot", "finetuned", "average@1", "average@0.5", "ties@0.5"]
    assert last_accuracy(found["average@0.5"], weighted=True) == 0.8
    assert forgetting(found["average@0.5"], weighted=True) is None
    assert forgetting(found["average@1"], weighted=True) == 0


def test_the_published_scale_is_shown_although_the_run_has_another():
    other = [replace(r, scale=0.7) if r.model == "average" else r for r in RUN]
    found = histories(SCALES.beside(other), "agnostic")
    assert {"average@0.7", "average@0.5", "average@1"} <= set(found)
    assert last_accuracy(found["average@1"], weighted=True) == 0.3


def test_the_best_rule_is_the_best_on_held_out_images():
    assert SCALES.best(apart=False) == "average"


def test_a_sentence_names_both_scales():
    average, ties, emr = describe(SWEPT, False, SCALES.published)
    assert average == (
        "average: scale 0.5 is best on 10 validation images (90.0%, agnostic); 80.0% on the test "
        "images, 30.0% at the published scale of 1"
    )
    assert ties.endswith("60.0% on the test images, and it is the published scale")
    assert "do not report it" in emr


@pytest.mark.parametrize("scale", [0.123456789, 1e-7])
def test_a_scale_with_many_digits_is_found_by_its_label(scale):
    swept = choose([row("average", scale, 0.9, "validation"), row("average", scale, 0.8)], False)
    [label] = {r.label for r in swept}
    assert Scales(swept, {}).kind(label) == "chosen"
