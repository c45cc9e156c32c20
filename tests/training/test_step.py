"""The compiled step: its loss, its optimiser, and what must not change it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.errors import DivergedError
from magmax_jax.models import CLIP
from magmax_jax.training import (
    Metrics,
    Trainer,
    TrainState,
    cross_entropy,
    fine_tune,
    make_trainer,
    own_classes,
)
from tests.helpers.compilations import compilations
from tests.training.cases import CLASSES, batch_of, objective


def test_cross_entropy_is_softmax_over_the_tasks_classes_alone():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 2, 3, 0, 2])
    own = np.exp(logits[:, CLASSES])
    expected = -np.log(np.exp(logits[np.arange(5), labels]) / own.sum(axis=1))
    np.testing.assert_allclose(cross_entropy(logits, labels, CLASSES), expected, rtol=1e-5)


def test_label_smoothing_spreads_over_the_tasks_classes_alone():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 2, 3, 0, 2])
    log_p = logits - np.log(np.exp(logits[:, CLASSES]).sum(axis=1, keepdims=True))
    target = np.where(CLASSES, 0.1 / 3, 0) + 0.9 * np.eye(4)[labels]
    expected = -(target[:, CLASSES] * log_p[:, CLASSES]).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(logits, labels, CLASSES, 0.1), expected, rtol=1e-5)


@cache
def trainer(graphdef, **recipe):
    fixed = {"crop_scale": (1.0, 1.0), "learning_rate": 1e-3}
    return make_trainer(graphdef, Preprocessing(16), TrainConfig(**(fixed | recipe)))


def trainer_of(tower, **recipe):
    """Tests of one recipe share its trainer, so its step is traced once."""
    return trainer(tower[0], **recipe)


def test_padding_changes_nothing(tower):
    """Its label 1 is outside the task, so its own loss is infinite."""
    trainer = trainer_of(tower)
    whole, padded = batch_of(6), batch_of(6, padding=2)
    padded = padded._replace(label=np.append(whole.label, [1, 1]).astype(np.int32))
    padded.image[:6] = whole.image
    state, metrics = trainer.step(trainer.init(tower[1]), whole, objective())
    padded_state, padded_metrics = trainer.step(trainer.init(tower[1]), padded, objective())
    np.testing.assert_allclose(padded_metrics[:2], metrics[:2], rtol=1e-5)
    assert share_close(padded_state.params, state.params) > 0.99


def share_close(params, expected, tolerance: float = 2e-6) -> float:
    """Share of equal entries. Adam's first steps are signs of gradients: where a gradient is only
    rounding error, as for a key's bias, so is the whole step of 1e-3."""
    ours, theirs = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (params, expected))
    return float(jnp.mean(jnp.abs(ours - theirs) < tolerance))


def test_two_steps_are_clipped_adamw(tower):
    """Against the update rule written out in NumPy on the same gradients."""
    graphdef, theta_0 = tower
    trainer = trainer_of(tower, weight_decay=0.1, clip_norm=0.5)
    batch, goal = batch_of(6), objective()
    pixels = Preprocessing(16).evaluate(batch.image, batch.box)

    def loss_fn(params):
        features = nnx.merge(graphdef, params)(pixels)
        features = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
        return cross_entropy(features @ goal.head, batch.label, goal.classes).mean()

    flat, rebuild = jax.flatten_util.ravel_pytree(theta_0)
    theta = np.asarray(flat, np.float64)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    state = trainer.init(theta_0)
    for step, rate in enumerate([1e-3, 1e-3]):  # the single warm-up step, then the cosine's maximum
        gradient = jax.grad(loss_fn)(rebuild(jnp.asarray(theta, jnp.float32)))
        g = np.asarray(jax.flatten_util.ravel_pytree(gradient)[0], np.float64)
        norm = np.linalg.norm(g)
        assert norm > 0.5, "the test is about clipped gradients"
        g *= 0.5 / norm
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
        theta = theta - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * theta)
        state, metrics = trainer.step(state, batch, goal)
        np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-4)
        assert share_close(state.params, jnp.asarray(theta, jnp.float32)) > 0.99


def test_weight_decay_alone_shrinks_every_tensor(tower):
    """Isolated: learning rate 1, decay d, no gradient through a zero head."""
    trainer = trainer_of(tower, weight_decay=0.25, learning_rate=1.0)
    goal = objective()._replace(head=jnp.zeros((16, 4)))
    state, _ = trainer.step(trainer.init(tower[1]), batch_of(4), goal)
    jax.tree.map(
        lambda now, before: np.testing.assert_allclose(now, 0.75 * before, rtol=1e-6),
        state.params,
        tower[1],
    )


def test_tasks_of_every_kind_share_one_compilation(tower):
    trainer = trainer_of(tower, weight_decay=0.3)  # a fresh trainer, so nothing is compiled yet
    state = trainer.init(tower[1])
    with compilations() as compiled:
        for i, classes in enumerate([CLASSES, ~CLASSES, np.ones(4, bool)]):
            goal = objective(steps=5 + i, classes=classes, seed=i)
            state, _ = trainer.step(state, batch_of(6), goal)
    assert sum("train_step" in name for name in compiled) == 1


def test_a_samples_loss_ranges_over_the_classes_of_its_own_head(tower):
    """Two heads learned at once: the same gradient as from each alone, weighted by samples."""
    goal = objective(classes=np.ones(4, bool))._replace(heads=jnp.array([0, 0, 1, 1]))
    batch = batch_of(6, padding=2)
    own = own_classes(goal, jax.tree.map(jnp.asarray, batch))
    first = np.array([True, True, False, False])
    for label, mask, classes in zip(batch.label, batch.mask, own, strict=True):
        expected = (first if label < 2 else ~first) if mask else np.ones(4, bool)
        np.testing.assert_array_equal(classes, expected)
    logits = jax.random.normal(jax.random.key(0), (8, 4))
    losses = cross_entropy(logits, batch.label, own)
    for i in np.flatnonzero(batch.mask):
        alone = cross_entropy(logits[i : i + 1], batch.label[i : i + 1], own[i])
        np.testing.assert_allclose(losses[i], alone[0], rtol=1e-6)


def test_padding_of_another_head_does_not_affect_gradients(tower):
    """Padding's label, here 1, belongs to a head without a class in the task."""
    trainer, second = trainer_of(tower), np.array([False, False, True, True])
    goal = objective(classes=second)._replace(heads=jnp.array([0, 0, 1, 1]))
    batch = batch_of(4, padding=3)
    batch = batch._replace(label=np.where(batch.mask, np.maximum(batch.label, 2), 1))
    _, metrics = trainer.step(trainer.init(tower[1]), batch, goal)
    assert np.isfinite(metrics.loss) and np.isfinite(metrics.gradient_norm)


def test_fine_tuning_keeps_its_start_learns_and_repeats_to_the_bit(tower):
    trainer = trainer_of(tower, crop_scale=(0.5, 1.0))
    before = jax.tree.map(np.array, tower[1])
    batches, losses, goal = [batch_of(8)] * 12, [], objective(12)

    def tune():
        with jax.transfer_guard("disallow"):  # only explicit transfers to the device
            return fine_tune(
                trainer,
                tower[1],
                goal,
                batches,
                lambda step, metrics: losses.append((step, metrics.loss)),
            )

    first, again = tune(), tune()
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, tower[1], before)
    assert [step for step, _ in losses] == [*range(12), *range(12)]
    assert losses[11][1] < 0.8 * losses[0][1]
    assert losses[:12] == losses[12:]


def test_augmentation_depends_on_the_key(tower):
    trainer = trainer_of(tower, crop_scale=(0.3, 0.6))

    def loss(seed):
        return float(
            trainer.step(trainer.init(tower[1]), batch_of(6), objective(seed=seed))[1].loss
        )

    assert loss(0) == loss(0) != loss(1)


def test_no_step_waits_for_its_loss():
    """Values are copied asynchronously, and read once the next two steps are in flight."""
    events = []

    class Scalar:
        def __init__(self, name):
            self.name = name

        def copy_to_host_async(self):
            events.append(f"ask {self.name}")

        def __array__(self, *_, **__):
            events.append(f"read {self.name}")
            return np.float32(1)

    names = Metrics._fields[:-1]  # there is no penalty

    def step(state, batch, objective, memory):
        metrics = Metrics(*(Scalar(f"{name} {state.step}") for name in names), None)
        return state._replace(step=state.step + 1), metrics

    trainer = Trainer(lambda params: TrainState(params, (), 0), step, lambda batch: batch)
    fine_tune(trainer, None, None, range(4))
    order = "ask 0, ask 1, ask 2, read 0, ask 3, read 1, read 2, read 3".split(", ")
    assert list(dict.fromkeys(events)) == [  # device_get requests it once more
        f"{verb} {name} {step}" for verb, step in map(str.split, order) for name in names
    ]


def test_a_loss_that_is_not_finite_stops_the_task(tower):
    trainer = trainer_of(tower)
    batches = [batch_of(6)] * 3
    spoiled = objective()._replace(head=jnp.full((16, 4), jnp.nan))
    with pytest.raises(DivergedError, match="the loss is nan at step 0: a lower learning rate"):
        fine_tune(trainer, tower[1], spoiled, batches)


def test_bfloat16_computes_but_keeps_float32_weights(tiny_clip):
    tower = nnx.split(CLIP.from_pretrained(tiny_clip, dtype="bfloat16").vision)
    exact = nnx.split(CLIP.from_pretrained(tiny_clip).vision)
    losses = []
    for each in (tower, exact):
        trainer = trainer_of(each)
        state, metrics = trainer.step(trainer.init(each[1]), batch_of(6), objective())
        floats = [
            *jax.tree.leaves(state.params),
            *jax.tree.leaves(state.moments[1:]),
            *metrics[:-1],
        ]
        assert {str(leaf.dtype) for leaf in floats} == {"float32", "int32"}  # Adam counts too
        losses.append(float(metrics.loss))
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
