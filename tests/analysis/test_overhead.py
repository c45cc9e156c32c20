"""Time and memory of functions: jitted, not jitted, and with donated arguments."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.analysis import measure
from magmax_jax.errors import UserError

X = jnp.zeros((256, 256))


def test_bytes_count_results_and_temporaries_but_not_arguments():
    assert measure(lambda x: x[0] + 1, X).nbytes == 256 * 4
    several = measure(lambda x: jnp.sort(x @ x.T, axis=None) @ jnp.ones(X.size), X)
    assert several.nbytes >= X.nbytes


def test_donated_arguments_stay_usable_and_their_results_take_no_memory():
    add = jax.jit(lambda state, x: state + x, donate_argnums=0)
    state = jnp.ones_like(X)
    assert measure(add, state, X).nbytes < X.nbytes == measure(lambda s, x: s + x, state, X).nbytes
    assert not state.is_deleted()
    assert (state == 1).all()


def test_compiles_once_and_returns_the_median_of_warm_calls(monkeypatch):
    compiled = []

    def function(tree, scale, step):
        compiled.append(None)
        return {name: leaf * scale + step for name, leaf in tree.items()}

    arguments = {"a": np.ones(3, np.float32), "b": X}, 2.0, 3
    found = measure(function, *arguments, repeats=2)
    assert len(compiled) == 1
    assert 0 <= found.nbytes - (12 + X.nbytes) < 100  # CPUs count the addresses of two results
    clock = iter([0.0, 9.0, 9.0, 10.0, 10.0, 13.0, 13.0, 15.0])  # the first call is not counted
    monkeypatch.setattr(time, "perf_counter", clock.__next__)
    assert measure(function, *arguments, repeats=3).seconds == 2.0


def test_invalid_input_is_rejected():
    with pytest.raises(UserError, match="repeats is 0"):
        measure(jnp.sin, X, repeats=0)
    with pytest.raises(UserError, match="static"):
        measure(jax.jit(lambda name, x: x, static_argnums=0), "name", X)
