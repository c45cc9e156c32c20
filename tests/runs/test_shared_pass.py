"""Models that share passes over the images: how many at a time, and their results."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.merging import fold, merged, merged_at, rules
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.shared_pass import HELD_BYTES, count_all, models_held
from magmax_jax.sharding import one_device


class Images:
    """Returns the models as their counts; holds at most `room` of them at a time."""

    def __init__(self, room: int, message: str = "RESOURCE_EXHAUSTED: Out of memory"):
        self.room, self.message, self.passes = room, message, []

    def counts_of(self, models, progress, shown, watched):
        if len(models) > self.room:
            raise jax.errors.JaxRuntimeError(self.message)
        self.passes.append(shown)
        assert list(watched([1, 2])) == [1, 2]
        return models


def named(count: int):
    return {f"model {i}": (lambda i=i: i) for i in range(count)}


def test_models_are_evaluated_in_groups_and_in_order():
    images = Images(room=9)
    assert list(count_all(named(7), images, 3, NullProgress())) == list(range(7))
    assert images.passes == ["model 0 and 2 more", "model 3 and 2 more", "model 6"]


def test_fewer_are_held_if_memory_runs_out():
    images = Images(room=2)
    assert list(count_all(named(5), images, 5, NullProgress())) == list(range(5))
    assert len(images.passes) == 3


@pytest.mark.parametrize("message", ["RESOURCE_EXHAUSTED: Out of memory", "INTERNAL: no"])
def test_other_errors_and_a_model_too_large_are_raised(message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=message.split(":")[0]):
        list(count_all(named(2), Images(0, message), 2, NullProgress()))


@pytest.mark.parametrize(
    ("stats", "held"),
    [(None, HELD_BYTES), ({"bytes_limit": 2**32}, HELD_BYTES), ({"bytes_limit": 2**37}, 2**35)],
    ids=["CPU", "small GPU", "large GPU"],
)
def test_a_device_holds_models_in_a_part_of_its_memory(stats, held):
    device = SimpleNamespace(memory_stats=lambda: stats)
    layout = SimpleNamespace(
        mesh=SimpleNamespace(local_devices=[device]), smallest=lambda number: number
    )
    gib = {"w": jax.ShapeDtypeStruct((2**28,), jnp.float32)}
    assert models_held(gib, layout) == held // 2**30
    assert models_held({"w": jax.ShapeDtypeStruct((2**38,), jnp.float32)}, layout) == 1
    assert models_held(gib, one_device()) >= 1


def test_a_collecting_rule_computes_its_task_vector_once_for_all_scales():
    rng, calls = np.random.default_rng(0), []
    theta_0, *thetas = ({"w": jnp.asarray(rng.normal(size=50), jnp.float32)} for _ in range(4))
    ties = rules.ties()

    class Counting:
        streaming, default_scale = False, 1.0

        def on_any_mesh(self):
            return self

        def finalize(self, state):
            calls.append(len(state))
            return ties.finalize(state)

    state = ties.init(theta_0)
    for theta in thetas:
        state = fold(ties, state, theta, theta_0)
    at = merged_at(Counting(), state, theta_0)
    for scale in (0.5, 1.0):
        expected = merged(ties, state, theta_0, scale)
        np.testing.assert_array_equal(at(scale)["w"], expected["w"])
    assert calls == [3]
