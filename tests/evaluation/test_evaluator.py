"""Counts and rows, checked against NumPy on the same features."""

import jax
import numpy as np
import pytest
from flax import nnx

from magmax_jax.data import Preprocessing, Source, eval_batches
from magmax_jax.evaluation.evaluator import make_evaluate
from magmax_jax.evaluation.rows import num_rows, rows_of
from magmax_jax.models import CLIP
from magmax_jax.scenarios import Head, Scenario, Task

CLASSES, TASKS, IMAGES = 6, 3, 22
DOMAINS = ("art", "toy")


@pytest.fixture(scope="module")
def scenario():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, IMAGES).astype(np.int32)
    images = random.integers(0, 256, (IMAGES, 16, 16, 3)).astype(np.uint8)
    domains = random.integers(-1, len(DOMAINS), IMAGES).astype(np.int32)
    source = Source(images, labels, tuple("abcdef"), domains, DOMAINS, image_shape=(16, 16))
    classes = np.array([[4, 0], [1, 5], [2, 3]])
    tasks = tuple(
        Task(f"task {i}", np.arange(1), np.flatnonzero(np.isin(labels, own)), own)
        for i, own in enumerate(classes)
    )
    heads = (Head(source.class_names, ("{}",)),)
    return Scenario("made up", source, source, tasks, heads, DOMAINS)


@pytest.fixture(scope="module")
def tower(tiny_clip):
    return nnx.split(CLIP.from_pretrained(tiny_clip).vision)


@pytest.fixture(scope="module")
def head():
    return jax.random.normal(jax.random.key(1), (16, CLASSES))


@pytest.mark.parametrize("batch_size", [5, 22, 64])
def test_counts_match_numpy_whatever_the_padding(scenario, tower, head, batch_size):
    preprocessing = Preprocessing(16)
    evaluate = make_evaluate(tower[0], preprocessing, head, scenario)
    batches = eval_batches(scenario.test, np.arange(IMAGES), batch_size, 16)
    with jax.transfer_guard("disallow"):  # only explicit transfers to the device
        (counts,) = evaluate([tower[1]], batches)

    boxes = np.tile(np.array([0, 0, 16, 16], np.int32), (IMAGES, 1))
    pixels = preprocessing.evaluate(scenario.test.images, boxes)
    logits = np.asarray(nnx.merge(*tower)(pixels) @ head)
    labels = scenario.test.labels
    for i, task in enumerate(scenario.tasks):
        among = np.array(sorted(task.classes))
        for domain in (-1, 0, 1):
            chosen = task.test[scenario.test.domains[task.test] == domain]
            agnostic = (logits[chosen].argmax(axis=1) == labels[chosen]).sum()
            aware = (among[logits[chosen][:, among].argmax(axis=1)] == labels[chosen]).sum()
            counted = (counts.agnostic, counts.aware, counts.total)
            found = tuple(count[i, domain + 1].sum() for count in counted)
            assert found == (agnostic, aware, len(chosen))
    assert counts.total.sum() == IMAGES
    assert (counts.aware >= counts.agnostic).all()
    assert (counts.aware > counts.agnostic).any(), "too easy to distinguish the two"
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    np.testing.assert_array_equal(counts.confusion, confusion)
    near = (np.argsort(-logits, axis=1)[:, :5] == labels[:, None]).any(axis=1)
    found = np.bincount(labels, near, minlength=CLASSES)
    np.testing.assert_array_equal(counts.agnostic_top5.sum(axis=(0, 1)), found)
    np.testing.assert_array_equal(counts.aware_top5, counts.total)  # two classes per task


def test_all_models_of_a_run_share_one_compilation(scenario, tower, head, caplog):
    evaluate = make_evaluate(tower[0], Preprocessing(16), head, scenario)
    batches = list(eval_batches(scenario.test, np.arange(IMAGES), 8, 16))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for scales in ((0.5,), (1.0, 2.0)):
            evaluate([jax.tree.map(lambda p, s=s: p * s, tower[1]) for s in scales], batches)
    compiled = [r.message for r in caplog.records if "Compiling jit(eval_step)" in r.message]
    assert len(compiled) == 1


def test_models_evaluated_together_get_the_same_counts_as_one_by_one(scenario, tower, head):
    evaluate = make_evaluate(tower[0], Preprocessing(16), head, scenario)
    batches = list(eval_batches(scenario.test, np.arange(IMAGES), 8, 16))
    models = [jax.tree.map(lambda p, s=scale: p * s, tower[1]) for scale in (0.5, 1.0, 2.0)]
    read = []
    together = evaluate(models, (read.append(1) or batch for batch in batches))
    assert len(read) == len(batches)  # once for all
    for model, counts in zip(models, together, strict=True):
        (alone,) = evaluate([model], batches)
        jax.tree.map(np.testing.assert_array_equal, counts, alone)
    confusions = {counts.confusion.tobytes() for counts in together}
    assert len(confusions) > 1, "too similar to distinguish them"


def test_a_label_with_a_nan_logit_is_not_recognised(scenario, tower, head):
    def hits(head):
        evaluate = make_evaluate(tower[0], Preprocessing(16), head, scenario)
        (counts,) = evaluate([tower[1]], eval_batches(scenario.test, np.arange(IMAGES), 22, 16))
        every = counts.agnostic, counts.aware, counts.agnostic_top5, counts.aware_top5
        return np.array([count.sum(axis=(0, 1)) for count in every])

    assert not hits(head.at[:, 2].set(np.nan))[:, 2].any()
    assert not hits(head * np.nan).any()


def test_the_first_of_equal_logits_is_the_prediction(scenario, tower, head):
    """Like argmax: if all logits are equal, class 0 is predicted for every image."""
    evaluate = make_evaluate(tower[0], Preprocessing(16), head * 0, scenario)
    (counts,) = evaluate([tower[1]], eval_batches(scenario.test, np.arange(IMAGES), 22, 16))
    found = np.array([c.sum(axis=(0, 1)) for c in (counts.agnostic, counts.agnostic_top5)])
    total = counts.total.sum(axis=(0, 1))
    np.testing.assert_array_equal(found[0], total * (np.arange(CLASSES) == 0))
    np.testing.assert_array_equal(found[1], total * (np.arange(CLASSES) < 5))
    first = [task.classes.min() for task in scenario.tasks]  # among the task's own classes
    aware = counts.aware.sum(axis=(0, 1))
    np.testing.assert_array_equal(aware, total * np.isin(np.arange(CLASSES), first))
    np.testing.assert_array_equal(counts.confusion[:, 0], total)


def test_rows_weight_samples_and_their_number_is_as_announced(scenario, tower, head):
    evaluate = make_evaluate(tower[0], Preprocessing(16), head, scenario)
    (counts,) = evaluate([tower[1]], eval_batches(scenario.test, np.arange(IMAGES), 8, 16))
    found = list(rows_of(counts, scenario, 2, "average", 1.0))
    assert [(r.protocol, r.group) for r in found[:6]] == [
        ("agnostic", group)
        for group in ("all", "task 0", "task 1", "task 2", "domain:art", "domain:toy")
    ]
    whole, *parts = found[:4]
    assert whole.count == IMAGES == sum(part.count for part in parts)
    hits = sum(part.accuracy * part.count for part in parts)
    assert whole.accuracy == pytest.approx(hits / IMAGES)
    for number, row in enumerate(found[4:6]):
        assert row.count == (scenario.test.domains == number).sum() > 0
        assert row.accuracy == counts.agnostic[:, 1 + number].sum() / row.count
        assert row.top5 == counts.agnostic_top5[:, 1 + number].sum() / row.count
    assert num_rows(scenario, rounds=TASKS, models=4) == (1 + 4 * TASKS) * len(found)
