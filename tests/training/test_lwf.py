"""Learning without forgetting against the published formula, written out."""

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.training.regularizers import distillation, lwf
from tests.training.cases import TASKS, batches_of, flat, forward, nearby, task


def test_distillation_is_the_cross_entropy_of_tempered_probabilities():
    """As published: softmax, raised to 1/T, renormalised, with eps added to the new ones."""
    random = np.random.default_rng(0)
    new, old = random.normal(0, 4, (2, 7, 6))
    classes = np.array([True, False, True, True, False, True])

    def tempered(logits, power):
        p = np.exp(logits[:, classes])
        p = (p / p.sum(axis=1, keepdims=True)) ** power
        return p / p.sum(axis=1, keepdims=True)

    q = tempered(new, 1 / 2) + 1e-5 / 4
    q = q / q.sum(axis=1, keepdims=True)
    expected = -(tempered(old, 1 / 2) * np.log(q)).sum(axis=1)
    found = distillation(jnp.float32(new), jnp.float32(old), classes, 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(distillation(jnp.float32(new), jnp.float32(old), classes, 1.0), expected)


def test_heads_of_several_data_sets_are_distilled_one_by_one():
    random = np.random.default_rng(0)
    new, old = jnp.float32(random.normal(0, 4, (2, 7, 6)))
    heads = np.array([0, 0, 0, 1, 1, 2])
    classes = np.array([True, False, True, True, True, False])  # not yet the third head
    found = distillation(new, old, classes, 2.0, jnp.asarray(heads))
    alone = [distillation(new, old, classes & (heads == head), 2.0) for head in (0, 1)]
    np.testing.assert_allclose(found, sum(alone), rtol=1e-5)

    def total(heads):
        return lambda x: distillation(x, old, classes, 2.0, heads).sum()

    slope = jax.grad(total(jnp.asarray(heads)))(new)
    assert np.isfinite(slope).all() and not slope[:, ~classes].any()
    assert not np.allclose(slope, jax.grad(total(None))(new))


def test_distillation_stays_finite_where_probabilities_vanish():
    far = jnp.array([[300.0, 0.0, -300.0]])
    classes = np.array([True, True, False])
    value, slope = jax.value_and_grad(lambda x: distillation(x, -x, classes, 2.0)[0])(far)
    np.testing.assert_allclose(value, -np.log(1e-5 / 2), rtol=1e-4)
    assert np.isfinite(slope).all()


def test_lwf_ranges_over_the_concatenated_heads_of_earlier_tasks(tower):
    """Over three tasks: heads cut out and concatenated, and unpadded batches."""
    regularizer = lwf(tower[0], num_classes=6, strength=0.7)
    memory, heads = regularizer.init(tower[1]), []
    for number in range(3):
        goal, batch = task(number), batches_of(number)[1]
        new, old = nearby(tower[1], 10 + number), nearby(tower[1], number - 1)
        seen = forward(tower, new, batch, goal)
        found = jax.jit(regularizer.penalty)(memory, new, seen)
        if number == 0:
            assert found == 0
        else:
            head = jnp.concatenate(heads, axis=1)
            rows = batch.mask
            logits = [forward(tower, p, batch, goal).features[rows] @ head for p in (new, old)]
            all_columns = np.ones(head.shape[1], bool)
            expected = 0.7 * distillation(*logits, all_columns, 2.0).mean()
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        heads.append(goal.head[:, np.array(TASKS[number])])
        memory = regularizer.consolidate(memory, nearby(tower[1], number), [], goal)
    assert memory.classes.all()


def test_lwf_has_a_gradient_only_through_the_new_features(tower):
    regularizer = lwf(tower[0], num_classes=6)
    memory = regularizer.consolidate(regularizer.init(tower[1]), tower[1], [], task(0))
    batch = batches_of(1)[0]

    def penalty(params, memory):
        seen = forward(tower, params, batch, task(1))
        return regularizer.penalty(memory, params, seen)

    theta = nearby(tower[1], 4)
    slope = flat(jax.grad(penalty)(theta, memory))
    ahead, behind = (
        penalty(jax.tree.map(lambda p, h=h: p + h, theta), memory) for h in (2e-3, -2e-3)
    )
    np.testing.assert_allclose(slope.sum(), (ahead - behind) / 4e-3, rtol=2e-2)


def test_before_the_first_task_lwf_does_not_run_the_old_model(tower):
    """Poisoned parameters are never used; the program has a branch, not a select."""
    regularizer = lwf(tower[0], num_classes=6)
    memory = regularizer.init(jax.tree.map(lambda p: p * jnp.nan, tower[1]))
    batch = batches_of(0)[0]

    @jax.jit
    def penalty(params, memory):
        return jax.value_and_grad(
            lambda p: regularizer.penalty(memory, p, forward(tower, p, batch, task(0)))
        )(params)

    value, slope = penalty(tower[1], memory)
    assert value == 0 and not flat(slope).any()
    assert "conditional" in penalty.lower(tower[1], memory).compile().as_text()
