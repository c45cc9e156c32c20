"""The diagonal Fisher against gradients that are taken one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.data import Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.models import CLIP
from magmax_jax.training.regularizers import diagonal_fisher
from tests.training.cases import CLASSES, batch_of, flat, objective

BATCHES = [batch_of(8), batch_of(6, padding=2), batch_of(3, padding=5)]


@pytest.fixture(scope="module")
def gradient(tower):
    """A function of some images -> the gradient of their mean -log p(the likeliest class).

    Written over the columns of the task's own classes, where ours masks the others out.
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
    """Entry by entry, but for those that are rounding alone."""
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


def test_batch_squares_the_batches_means(tower, fishers, gradient):
    """Weighted by their samples, so that the last batch's padding weighs nothing."""
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


def test_labels_are_the_likeliest_of_the_tasks_classes_alone(tower, fishers):
    """A class of another task that every image resembles most changes nothing."""
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


def test_mistakes_are_told(tower, fishers):
    with pytest.raises(UserError, match="choose from empirical, batch, accumulated"):
        diagonal_fisher(tower[0], Preprocessing(16), "exact")
    with pytest.raises(UserError, match="at least one batch"):
        fishers["empirical"](tower[1], iter([]), objective())


def test_each_examples_gradient_is_lowered_for_gpus_without_one(tiny_clip, cudnn):
    """cuDNN's attention under vmap, with the odd number of tokens that CLIPs have."""
    clip = CLIP.from_pretrained(tiny_clip, dtype="bfloat16")
    graphdef, theta = nnx.split(clip.vision)
    assert clip.config.vision.grid**2 % 2 == 0  # and the class token
    pixels = jnp.zeros((3, 1, 16, 16, 3))

    def gradients(theta, pixels):
        def summed(theta, pixels):
            return nnx.merge(graphdef, theta)(pixels).astype(jnp.float32).sum()

        return jax.vmap(jax.grad(summed), in_axes=(None, 0))(theta, pixels)

    lowered = jax.jit(gradients).trace(theta, pixels).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("__cudnn$fmhaSoftmaxBackward(") == 1


def test_gradients_of_single_examples_are_held_for_one_block_alone(tower, fishers):
    """(examples, ...) of one block's kernel is in the program, of the whole stack it is not."""

    def found(params, batch, goal):
        return fishers["empirical"](params, [batch], goal)

    program = jax.jit(found).trace(tower[1], batch_of(8), objective()).lower().as_text()
    layers, d, m = tower[1]["blocks"]["fc1"]["kernel"].shape
    assert f"tensor<8x{d}x{m}xf32>" in program
    for stack in (f"8x{layers}x{d}x{m}", f"{layers}x8x{d}x{m}"):
        assert f"tensor<{stack}xf32>" not in program
