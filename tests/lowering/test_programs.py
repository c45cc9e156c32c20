"""The checks that the other tests rely on do find what they look for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lowering.programs import Program, product_flops, program, programs

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)


def called_back(x):
    return jax.pure_callback(np.asarray, X, x)


def printed(x):
    jax.debug.print("{}", x.sum())
    return x


def convolved(x):
    return jax.lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "SAME")


def moved_to_the_host(x):
    return jax.device_put(x, jax.memory.Space.Host)


def wide(x):
    with jax.enable_x64(True):
        return x.astype(jnp.float64)


@pytest.mark.parametrize("function", [convolved, moved_to_the_host, wide])
def test_forbidden_operations_are_found(function, platform):
    assert program(platform, jax.jit(function), X).forbidden
    assert not program(platform, jax.jit(lambda x: x @ x.T), X).forbidden


@pytest.mark.parametrize("function", [called_back, printed])
def test_calls_of_python_are_not_lowered_for_another_platform(function, platform):
    with pytest.raises(ValueError, match="different from the lowering platform"):
        program(platform, jax.jit(function), X)


def test_kernels_of_another_platform_are_found():
    """Decompositions: each platform has its own kernels."""
    text = program("tpu", jax.jit(jnp.linalg.svd), X).text
    assert Program("svd", "cuda", text).forbidden >= {"Eigh", "Qr"}
    assert not Program("svd", "tpu", text).forbidden


def test_donated_bytes_are_those_of_the_arguments(platform):
    def function(x, y, count):
        return x + y, count + 1

    count = jax.ShapeDtypeStruct((), jnp.int32)
    given = [
        program(platform, jax.jit(function, donate_argnums=d), X, X, count) for d in ((), (0, 2))
    ]
    assert [each.donated for each in given] == [0, 4 * 8 * 4 + 4]


def test_programs_are_those_that_a_function_starts(platform):
    half = jax.jit(lambda x: x / 2, donate_argnums=0)
    found = programs(platform, lambda x, y: half(half(x)) + half(y), X, X)
    assert [each.donated for each in found[:3]] == [4 * 8 * 4] * 3
    assert found[0] is found[1] is found[2]


def test_flops_of_products_are_counted_in_loops_and_branches():
    def function(x):
        def step(y, _):
            return jax.lax.cond(True, lambda y: y @ jnp.ones((8, 8)), lambda y: y, y), None

        return jax.lax.scan(step, x, length=3)[0] @ jnp.ones((8, 2))

    assert product_flops(function, X) == 3 * 2 * 4 * 8 * 8 + 2 * 4 * 8 * 2
