"""The diagonal of the Fisher information: each parameter's importance for a task."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.models import image_features
from magmax_jax.models.layers.squared_gradients import summed_squares
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training.step import Objective, Params, cross_entropy

Kind = Literal["empirical", "batch", "accumulated"]

EXAMPLES_AT_ONCE = 8
"""Per-example gradients that each device holds at a time, mostly those of one block."""


class Sums(NamedTuple):
    """The running sums of one pass: squares like the parameters, the number of samples (int32).

    `gradient` is the sum of the batches' gradients so far, only for "accumulated".
    """

    squares: Params
    gradient: Params | None
    samples: jax.Array


def diagonal_fisher(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    kind: Kind = "empirical",
    layout: Layout | None = None,
) -> Callable[[Params, Iterable[Batch[jax.Array]], Objective], Params]:
    """A function (params, batches, objective) -> F, which compiles once for all tasks.

    With g_i the gradient of -log p(y_i | x_i), y_i the most likely of the objective's classes
    according to the model itself, and batch b of n_b samples, out of n:

        empirical     F = 1/n sum_i g_i^2
        batch         F = 1/n sum_b n_b G_b^2              G_b = 1/n_b sum_(i in b) g_i
        accumulated   F = 1/n sum_b n_b (G_1 + ... + G_b)^2

    "empirical" is the Fisher, except that the label is the most likely one instead of sampled.
    "batch" squares means, in which gradients cancel: smaller by up to n_b. "accumulated" is what
    the published experiments of MagMax compute: gradients are not cleared between batches before
    they are squared, so they add up, and F grows with the number of batches. (They also start from
    the gradient left by the last training step, divide by n rounded up to whole batches, and
    augment the images; with domains they leave out the head, so y_i is the largest of the features.
    None of these is imitated.)

    Images are preprocessed as in evaluation, so F is deterministic. F depends on the order of
    batches only for "accumulated", and on their size only for the latter two.

    Args:
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      kind: one of the three; `magmax_jax.rules.fisher` merges with "empirical".
      layout: where parameters are placed; one device by default.

    Returns:
      F, float32 like the parameters, non-negative. A pass costs about as much as an epoch of
      training, up to two if images have few tokens. "empirical" holds the gradients of
      `EXAMPLES_AT_ONCE` examples per device: of one block at a time in towers that call
      `squared_here`, as ours do, of all parameters in others.

    Raises:
      UserError: there is no such kind, or (later) there is no batch.
    """
    if kind not in get_args(Kind):
        raise UserError(
            f"{kind!r} is not a kind of Fisher: choose from {', '.join(get_args(Kind))}"
        )
    layout = layout or one_device()
    devices = layout.mesh.size

    def surprise(
        params: Params, pixels: jax.Array, mask: jax.Array, objective: Objective
    ) -> jax.Array:
        """The sum of -log p(most likely class) over the samples."""
        logits = image_features(tower, params, pixels) @ objective.head
        likeliest = jnp.argmax(jnp.where(objective.classes, logits, -jnp.inf), axis=1)
        losses = cross_entropy(logits, likeliest, objective.classes)
        return jnp.sum(jnp.where(mask, losses, 0))

    squares_of = summed_squares(
        lambda params, one, goal: surprise(params, one[0], one[1], goal), devices
    )

    def sum_of_squares(
        params: Params, pixels: jax.Array, mask: jax.Array, objective: Objective
    ) -> Params:
        """sum_i g_i^2, computed for a few examples per device at a time."""
        rows = len(mask) // devices
        together = max(m for m in range(1, EXAMPLES_AT_ONCE + 1) if rows % m == 0)

        def groups(x: jax.Array) -> jax.Array:
            # Each device holds a run of the batch's rows; every group has rows of all devices.
            x = x.reshape(devices, together, rows // together, 1, *x.shape[1:])
            return jnp.moveaxis(x, 2, 0).reshape(rows // together, devices * together, *x.shape[3:])

        def add(squares: Params, group: tuple[jax.Array, jax.Array]) -> tuple[Params, None]:
            return jax.tree.map(jnp.add, squares, squares_of(params, group, objective)), None

        start = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(add, start, (groups(pixels), groups(mask)))[0]

    @jax.jit
    def begin(params: Params) -> Sums:
        zeros = jax.tree.map(jnp.zeros_like, params)
        gradient = zeros if kind == "accumulated" else None
        return layout.constrain(Sums(zeros, gradient, jnp.int32(0)))

    @jax.jit(donate_argnums=0)
    def fisher_step(
        sums: Sums, params: Params, batch: Batch[jax.Array], objective: Objective
    ) -> Sums:
        pixels = preprocessing.evaluate(batch.image, batch.box)
        count = jnp.sum(batch.mask)
        if kind == "empirical":
            squares, running = sum_of_squares(params, pixels, batch.mask, objective), None
        else:
            total = jax.grad(surprise)(params, pixels, batch.mask, objective)
            gradient = jax.tree.map(lambda g: g / jnp.maximum(count, 1), total)
            if kind == "accumulated":
                gradient = jax.tree.map(jnp.add, sums.gradient, gradient)
            squares = jax.tree.map(lambda g: count * jnp.square(g), gradient)
            running = gradient if kind == "accumulated" else None
        squares = jax.tree.map(jnp.add, sums.squares, squares)
        return layout.constrain(Sums(squares, running, sums.samples + count))

    @jax.jit(donate_argnums=0)
    def mean(squares: Params, samples: jax.Array) -> Params:
        return jax.tree.map(lambda s: s / samples, squares)

    def estimate(
        params: Params, batches: Iterable[Batch[jax.Array]], objective: Objective
    ) -> Params:
        sums, batch = begin(params), None
        for batch in batches:
            sums = fisher_step(sums, params, batch, objective)
        if batch is None:
            raise UserError("the Fisher information needs at least one batch of the task's images")
        return mean(sums.squares, sums.samples)

    return estimate
