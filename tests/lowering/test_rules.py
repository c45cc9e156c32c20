"""Every rule's fold and merge, on trees and on files, as accelerators get them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.merge_files import drawing, survey
from magmax_jax.merge_files.by_chunk import merge_chunk
from magmax_jax.merge_files.chunk_sizes import LANES, chunk_length
from magmax_jax.merge_files.drawing import DrawnRows
from magmax_jax.merge_files.trimming import Rows
from magmax_jax.merging import merge, rules
from magmax_jax.merging.merge import _fold, _merged
from magmax_jax.merging.quantised import dequantise, quantise
from magmax_jax.merging.rule import informed
from tests.lowering.programs import program, tree_bytes
from tests.lowering.towers import tower
from tests.merging.cases import COLLECTING, EVERY, STREAMING

OF_ENTRIES = [
    name
    for name, rule in EVERY.items()
    if rule.scope == "entry" and not (rule.survey or rule.needs_fisher)
]
"""Rules that merge files in chunks; files do not hold a Fisher."""


@pytest.fixture(scope="module")
def theta():
    return tower("float32")[1]


def tuned(name: str, theta):
    """A fine-tuned model in the form that the named rule takes."""
    return informed(EVERY[name], theta, theta)


@pytest.mark.parametrize("name", STREAMING)
def test_a_fold_updates_its_state_in_place_and_merges_on_the_device(name, theta, platform):
    rule = STREAMING[name].on_any_mesh()
    state = jax.eval_shape(rule.init, theta)
    fold = program(platform, _fold, rule, state, tuned(name, theta), theta)
    assert not fold.forbidden
    assert fold.donated == tree_bytes(state)
    assert not program(platform, _merged, rule, state, theta, 1.0).forbidden


@pytest.mark.parametrize("name", COLLECTING)
def test_rules_that_collect_merge_on_the_device(name, theta, platform):
    models = [theta] * (COLLECTING[name].most_models or 3)
    whole = jax.jit(partial(merge, rule=COLLECTING[name]))
    assert not program(platform, whole, theta, models).forbidden


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OF_ENTRIES)
def test_files_are_merged_on_the_device(name, dtype, platform):
    chunk = jax.ShapeDtypeStruct((chunk_length(3),), dtype)
    rule = EVERY[name]
    state = jax.eval_shape(rule.init, chunk.update(dtype=np.float32))
    before = state if rule.streaming else None
    args = (rule, 1.0, chunk.dtype, rule.streaming, before, None, chunk, chunk, chunk)
    assert not program(platform, merge_chunk, *args).forbidden


def test_files_are_trimmed_on_the_device(platform):
    chunk = jax.ShapeDtypeStruct((chunk_length(3),), jnp.float32)
    shape = (2, chunk.size // LANES)
    least = jax.ShapeDtypeStruct(shape, jnp.float32)
    last = jax.ShapeDtypeStruct(shape, jnp.int32)
    for whole, rows in (
        (rules.ties(threshold="per_tensor", majority=1), Rows(least, None)),
        (rules.sparse_task_arithmetic(None, "magnitude", (0.5,)), Rows(least, last)),
    ):
        rule = whole.trims.rule(2, lambda count: None)
        args = (rule, 1.0, chunk.dtype, False, None, rows, chunk, chunk, chunk)
        assert not program(platform, merge_chunk, *args).forbidden


def test_files_are_thinned_at_random_on_the_device(platform):
    chunk = jax.ShapeDtypeStruct((chunk_length(3),), jnp.float32)
    number = chunk.size // LANES
    keys, places = (jax.ShapeDtypeStruct((*n, 2, number), jnp.uint32) for n in ((2,), ()))
    factors, bounds = (jax.ShapeDtypeStruct((2, n), jnp.float32) for n in (number, 2))
    rows = DrawnRows(keys, places, factors, bounds)
    rule = rules.sparse_task_arithmetic(None, "random", (0.5,), consensus=True).thins.rule
    args = (rule, 1.0, chunk.dtype, False, None, rows, chunk, chunk, chunk)
    assert not program(platform, merge_chunk, *args).forbidden
    assert not program(platform, drawing._norms, rows, chunk, chunk, chunk).forbidden


def test_files_are_surveyed_on_the_device(platform):
    chunk = jax.ShapeDtypeStruct((chunk_length(3),), jnp.float32)
    pivots = jax.ShapeDtypeStruct((2, 8), jnp.float32)
    assert not program(platform, survey._count, pivots, chunk, chunk, chunk).forbidden


def test_task_vectors_are_quantised_on_the_device(theta, platform):
    encode = jax.jit(lambda tau, base: quantise(tau, 8, base))
    coded = jax.eval_shape(encode, theta, theta)
    decode = jax.jit(dequantise)
    for function, *args in ((encode, theta, theta), (decode, coded, theta)):
        assert not program(platform, function, *args).forbidden
