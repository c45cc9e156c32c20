"""JAX is imported on first use, and functions are compiled then."""

import copy
import subprocess
import sys
from functools import partial

import jax as real
import numpy as np

from magmax_jax.packages.lazy_jax import jax, jit, jnp

PROGRAM = """
import sys
from magmax_jax.packages.lazy_jax import jax, jit, jnp
f = jit(lambda x: jnp.sum(x) + 1)
assert "jax" not in sys.modules
assert f(jnp.ones(3)) == 4
"""


def test_nothing_is_imported_before_its_first_use():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_names_are_those_of_jax():
    assert jax.Array is real.Array and jnp.float32 is real.numpy.float32
    assert jax.lax is real.lax and jnp.linalg is real.numpy.linalg


def test_a_decorated_function_is_compiled_once_and_stays_what_it_is():
    traced = []

    @partial(jit, static_argnames="power")
    def raised(x: jax.Array, power: int = 2) -> jax.Array:
        """To a power."""
        traced.append(power)
        return x**power

    assert traced == [] and raised.__name__ == "raised" and raised.__doc__ == "To a power."
    for _ in range(2):
        np.testing.assert_array_equal(raised(jnp.arange(3)), [0, 1, 4])
    np.testing.assert_array_equal(raised(jnp.arange(3), power=3), [0, 1, 8])
    assert traced == [2, 3]
    assert raised.lower(jnp.arange(3)).as_text().startswith("module @jit_raised")
    np.testing.assert_array_equal(real.vmap(raised)(jnp.arange(3)), [0, 1, 4])
    np.testing.assert_array_equal(copy.deepcopy(raised)(jnp.arange(3)), [0, 1, 4])
