"""Flags that all benchmarks have."""

import pytest

from benchmarks.choosing import check_positive, matching
from magmax_jax.errors import UserError


def test_those_are_chosen_that_any_pattern_fits_in_their_own_order():
    assert matching(["ours", "torch, eager", "Ours"], ["t*", "ours"], str) == [
        "ours",
        "torch, eager",
    ]


@pytest.mark.parametrize("patterns", [["nobody", "o"], []])
def test_patterns_that_fit_nobody_are_a_mistake(patterns):
    with pytest.raises(UserError, match="--only: nothing is called no"):
        matching(["ours"], patterns, str)


def test_numbers_must_be_positive_defaults_need_not():
    check_positive({"--a": None, "--b": 1, "--c": (1, 0.5), "--d": ()})
    for value in (0, -1, (1, 0)):
        with pytest.raises(UserError, match=r"--a: -?\d is not positive"):
            check_positive({"--a": value})
