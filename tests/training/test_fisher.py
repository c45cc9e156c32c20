"""The diagonal Fisher against gradients of one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.data import Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.training.regularizers import diagonal_fisher
from tests.training.cases import CLASSES, batch_of, flat, objective

BATCHES = [batch_of(8), batch_of(6, padding=2), batch_of(3, padding=5)]


@pytest.fixture(scope="module")
def gradient(tower):
    """A function of some images -> the gradient of their mean -log p(the likeliest class).

    Uses only the columns of the task's classes, where ours masks out the others.
    """
    graphdef, theta = tower
    head = objective().head[:, CLASSES]

    @jax.jit
    def gradient_of(image):
        def loss(params):
            pixels = image.astype(jnp.float32) / 255
            pixels = (pixels - jnp.array(Preprocessing(16).mean)) / jnp.array(Preprocessing(16).std)
            features = nnx.merge(graphdef, params)(pixels)
            features = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
            return -jnp.max(jax.nn.log_softmax(features @ head), axis=1).mean()

        return jax.flatten_util.ravel_pytree(jax.grad(loss)(theta))[0]

    return lambda image: np.asarray(gradient_of(image), np.float64)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Compares entry by entry, except entries that are only rounding error."""
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6 * expected.max())


def test_empirical_is_the_mean_over_single_examples(tower, fishers, gradient):
    images = [image for batch in BATCHES for image in batch.image[batch.mask]]
    expected = sum(gradient(image[None]) ** 2 for image in images) / len(images)
    found = fishers["empirical"](tower[1], BATCHES, objective())
    close(flat(found), expected)
    assert jax.tree.structure(found) == jax.tree.structure(tower[1])


def test_empirical_does_not_depend_on_how_examples_are_batched(tower, fishers):
    whole = batch_of(10)  # in groups of five; batches of eight are one group each
    again = jax.tree.map(lambda x: np.concatenate([x, x[:6]]), whole)
    again = again._replace(mask=np.arange(16) < 10)
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 8], again) for i in (0, 8)]
    expected = flat(fishers["empirical"](tower[1], [whole], objective()))
    close(flat(fishers["empirical"](tower[1], parts, objective())), expected)


@pytest.mark.parametrize("kind", ["empirical", "batch"])
def test_repeating_images_changes_nothing(tower, fishers, kind):
    """F is a mean over images, so a strength means the same for a sample of them."""
    once = flat(fishers[kind](tower[1], BATCHES, objective()))
    close(flat(fishers[kind](tower[1], BATCHES * 3, objective())), once)


def test_batch_squares_the_batches_means(tower, fishers, gradient):
    """Weighted by samples, so the last batch's padding has no weight."""
    means = [(int(b.mask.sum()), gradient(b.image[b.mask])) for b in BATCHES]
    expected = sum(n * g**2 for n, g in means) / sum(n for n, _ in means)
    close(flat(fishers["batch"](tower[1], BATCHES, objective())), expected)


def test_accumulated_never_clears_its_gradient(tower, fishers, gradient):
    expected, running = 0.0, 0.0
    for batch in BATCHES:
        running = running + gradient(batch.image[batch.mask])
        expected = expected + int(batch.mask.sum()) * running**2
    expected = expected / sum(int(batch.mask.sum()) for batch in BATCHES)
    close(flat(fishers["accumulated"](tower[1], BATCHES, objective())), expected)


def test_labels_are_the_likeliest_among_the_tasks_classes_only(tower, fishers):
    """A class of another task that every image resembles most makes no difference."""
    fisher, goal = fishers["batch"], objective()
    tempting = goal._replace(head=goal.head.at[:, 1].set(1000.0))
    expected = flat(fisher(tower[1], BATCHES, goal))
    np.testing.assert_array_equal(flat(fisher(tower[1], BATCHES, tempting)), expected)
    open_to_all = tempting._replace(classes=jnp.ones(4, bool))
    assert not np.allclose(flat(fisher(tower[1], BATCHES, open_to_all)), expected)


def test_labels_of_the_data_do_not_matter(tower, fishers):
    fisher = fishers["batch"]
    relabelled = [batch._replace(label=batch.label * 0) for batch in BATCHES]
    expected = flat(fisher(tower[1], BATCHES, objective()))
    np.testing.assert_array_equal(flat(fisher(tower[1], relabelled, objective())), expected)


def test_invalid_input_is_rejected(tower, fishers):
    with pytest.raises(UserError, match="choose from empirical, batch, accumulated"):
        diagonal_fisher(tower[0], Preprocessing(16), "exact")
    with pytest.raises(UserError, match="at least one batch"):
        fishers["empirical"](tower[1], iter([]), objective())


def test_single_example_gradients_are_held_for_only_one_block(tower, fishers):
    """The program has (examples, ...) arrays of one block's kernel, but not of the whole stack."""

    def found(params, batch, goal):
        return fishers["empirical"](params, [batch], goal)

    program = jax.jit(found).trace(tower[1], batch_of(8), objective()).lower().as_text()
    layers, d, m = tower[1]["blocks"]["fc1"]["kernel"].shape
    assert f"tensor<8x{d}x{m}xf32>" in program
    for stack in (f"8x{layers}x{d}x{m}", f"{layers}x8x{d}x{m}"):
        assert f"tensor<{stack}xf32>" not in program
