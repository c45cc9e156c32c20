"""Which task supplied each entry, against NumPy's argmax over all task vectors at once."""

import jax
import numpy as np
import pytest

from magmax_jax.analysis import supplied
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.analysis.cases import NAMES, flat, task_vector


def merged(taus):
    rule = rules.max_magnitude(provenance=True)
    state = rule.init(taus[0])
    for tau in taus:
        state = jax.jit(rule.update)(state, tau)
    return state


def named(tau):
    return tau["blocks"]["bias"], tau["blocks"]["kernel"], tau["head"]


def test_entries_and_squares_match_numpy_by_leaf_layer_and_task():
    taus = [task_vector(seed) for seed in range(4)]
    found = iter(list(supplied(merged(taus), stacked=lambda name: name.startswith("blocks"))))
    for name, *leaves in zip(NAMES, *map(named, taus), strict=True):
        every = np.stack(leaves)
        source = np.where(np.abs(every).max(axis=0) > 0, np.abs(every).argmax(axis=0), -1)
        layers = range(3) if name != "head" else [None]
        for layer in layers:
            place = slice(None) if layer is None else layer
            for task in range(4):
                own = (source == task)[place]
                one = next(found)
                assert one[:3] == (name, layer, task + 1)
                assert (one.entries, one.supplied) == (own.size, own.sum())
                squares = np.square(every[task][place][own], dtype=np.float64).sum()
                assert one.squared_norm == pytest.approx(squares, rel=1e-5)
    assert next(found, None) is None


def test_together_the_tasks_supply_every_nonzero_entry():
    taus = [task_vector(seed) for seed in range(3)]
    state = merged(taus)
    tau, found = flat(state.tau), list(supplied(state))
    assert sum(one.supplied for one in found) == np.count_nonzero(tau) < tau.size
    assert sum(one.squared_norm for one in found) == pytest.approx(np.square(tau).sum(), rel=1e-5)
    assert sum(one.entries for one in found) == 3 * tau.size


def test_ties_go_to_the_later_task_and_unchanged_entries_to_none():
    state = merged([np.float32([1, 0, 2]), np.float32([-1, 0, 1])])
    assert [(one.task, one.supplied, one.squared_norm) for one in supplied(state)] == [
        (1, 1, 4.0),
        (2, 1, 1.0),
    ]


def test_invalid_input_is_rejected():
    with pytest.raises(UserError, match="provenance=True"):
        list(supplied(np.ones(3, np.float32)))
    with pytest.raises(UserError, match="'a' is a scalar"):
        list(supplied(merged([{"a": np.float32(1)}]), stacked=lambda name: True))
