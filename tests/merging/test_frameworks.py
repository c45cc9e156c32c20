"""Models of Equinox, Haiku and Linen are merged directly and still compute.

pip install equinox==0.13.8 dm-haiku==0.0.17
"""

from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import magmax_jax as mm

pytestmark = pytest.mark.slow
X = jnp.ones((4, 2))
PINS = {"equinox": "0.13.8", "dm-haiku": "0.0.17"}
"""Versions that these tests are known to pass with; others are tried too."""


def library(distribution: str, module: str):
    """Imports the module if its distribution is installed."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"pip install {distribution}=={PINS[distribution]}")
    return pytest.importorskip(module)


def averaged(a, b):
    return jax.tree.map(lambda x, y: (x + y) / 2, a, b)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), actual, expected)


@pytest.mark.parametrize("rule", ["average", "ties", "max_magnitude"])
def test_an_equinox_module_keeps_its_functions_and_hyperparameters(rule):
    eqx = library("equinox", "equinox")

    def net(seed: int):
        keys = jax.random.split(jax.random.key(seed))
        mlp = eqx.nn.MLP(2, 3, 4, 1, activation=jax.nn.gelu, key=keys[0])
        layers = [mlp, eqx.nn.Dropout(0.3), eqx.nn.LayerNorm(3), eqx.nn.Lambda(jnp.tanh)]
        return eqx.nn.Sequential(layers)

    theta_0, a, b = map(net, range(3))
    theta = mm.merge(theta_0, [a, b], rule, scale=1.0)
    assert isinstance(theta, eqx.nn.Sequential)
    assert theta.layers[0].activation is theta_0.layers[0].activation
    assert theta.layers[1].p == 0.3 and type(theta.layers[1].p) is float
    assert theta.layers[3].fn is jnp.tanh
    run = eqx.filter_jit(lambda net, x: jax.vmap(lambda x: net(x, key=jax.random.key(0)))(x))
    assert run(theta, X).shape == (4, 3)
    if rule == "average":
        arrays = [eqx.filter(net, eqx.is_array) for net in (theta, a, b)]
        assert_close(arrays[0], averaged(*arrays[1:]))
    tau = mm.task_vector(a, theta_0)
    assert_close(
        *(eqx.filter(net, eqx.is_array) for net in (mm.apply_task_vector(theta_0, tau), a))
    )


def test_haiku_parameters_and_state_are_merged():
    hk = library("dm-haiku", "haiku")

    def forward(x):
        return hk.BatchNorm(True, True, 0.9)(hk.Linear(3)(x), is_training=True)

    net = hk.transform_with_state(forward)
    theta_0, a, b = (net.init(jax.random.key(seed), X) for seed in range(3))
    params, state = mm.merge(theta_0, [a, b], "average")
    assert_close(params, averaged(a[0], b[0]))
    assert net.apply(params, state, None, X)[0].shape == (4, 3)


def test_linen_frozen_dicts_and_train_states_are_merged():
    from flax import linen
    from flax.core import FrozenDict, freeze
    from flax.training.train_state import TrainState

    net = linen.Dense(3)
    theta_0, a, b = (freeze(net.init(jax.random.key(seed), X)) for seed in range(3))
    theta = mm.merge(theta_0, [a, b], "average")
    assert isinstance(theta, FrozenDict)
    assert_close(theta, averaged(a, b))

    def state(params):
        return TrainState.create(apply_fn=net.apply, params=params, tx=optax.adam(1e-3))

    trained = state(a)
    trained = trained.apply_gradients(grads=jax.tree.map(jnp.ones_like, a))
    before = state(theta_0)
    after = mm.merge(before, [trained], scale=1.0)
    assert after.step == 0 and after.apply_fn == net.apply
    assert_close(after.params, trained.params)
    assert after.apply_gradients(grads=jax.tree.map(jnp.ones_like, a)).step == 1
