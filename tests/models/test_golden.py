"""Parity with transformers' torch CLIP through stored outputs (`make_golden.py`), without torch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.models import CLIP, normalise
from tests.models.make_golden import GOLDEN
from tests.models.stages import stages
from tests.models.weights import CONFIGS, IDS, SIZES, pixels

CASES = [(name, size) for name in CONFIGS for size in SIZES[name]]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_every_stage_equals_torch(name, size, golden, checkpoint):
    model = CLIP.from_pretrained(checkpoint(name), image_size=size)
    expected = {
        key.rpartition("/")[2]: value
        for key, value in golden.items()
        if key.startswith(f"{name}/{size}/")
    }
    ours = stages(model, pixels(size), IDS[name])
    assert len(expected) == (7 if size == SIZES[name][0] else 4)
    for stage, value in expected.items():
        np.testing.assert_allclose(ours[stage], value, rtol=0, atol=2e-5, err_msg=stage)


@pytest.mark.parametrize(
    ("name", "tower", "changes"),
    [
        ("legacy", "vision", {"activation": "gelu"}),
        ("modern", "vision", {"activation": "gelu_new"}),
        ("modern", "vision", {"epsilon": 1e-5}),
        ("modern", "text", {"epsilon": 1e-5}),
        ("legacy", "text", {"eos": 49407}),
        ("modern", "text", {"eos": 2}),
    ],
    ids=str,
)
def test_stored_outputs_distinguish_every_configuration(name, tower, changes, golden, checkpoint):
    model = CLIP.from_pretrained(checkpoint(name))
    kind = type(getattr(model, tower))
    config = dataclasses.replace(getattr(model.config, tower), **changes)
    size = SIZES[name][0]
    given = pixels(size) if tower == "vision" else IDS[name]

    @jax.jit
    def features(params: nnx.State) -> jax.Array:
        other = nnx.eval_shape(
            lambda: kind(config, model.config.projection, dtype=jnp.float32, rngs=nnx.Rngs(0))
        )
        return normalise(nnx.merge(nnx.graphdef(other), params)(given))

    ours = features(nnx.state(getattr(model, tower)))
    assert np.abs(ours - golden[f"{name}/{size}/{tower}.features"]).max() > 5e-5
