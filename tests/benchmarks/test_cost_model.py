"""Predictions by hand."""

from dataclasses import replace

import pytest

from benchmarks.collectives import Collective
from benchmarks.cost_model import (
    ACCELERATORS,
    Accelerator,
    Assumptions,
    among,
    as_bfloat16,
    collective_seconds,
    compute_seconds,
    predict,
)
from benchmarks.shapes import SIZES

MADE_UP = Accelerator("made up", 1e12, 1e9, node=4, near=1e9, far=1e8)
PLAIN = Assumptions(mfu=1, reached=1, latency=0)


def test_rings_within_nodes_and_between_them():
    """8 devices in two nodes of 4: 3/4 of the bytes within, 1/2 of a quarter between, twice."""
    seconds = collective_seconds(Collective("all-reduce", 10**9, 8, 1), MADE_UP, PLAIN)
    assert seconds == pytest.approx(2 * 0.75 * 1.0 + 2 * 0.5 * 0.25e9 / 1e8)
    gather = collective_seconds(Collective("all-gather", 10**9, 4, 1), MADE_UP, PLAIN)
    assert gather == pytest.approx(0.75)
    late = replace(PLAIN, latency=1e-3)
    assert collective_seconds(Collective("all-gather", 0, 8, 1), MADE_UP, late) == 3e-3
    assert collective_seconds(Collective("all-reduce", 10**9, 1, 1), MADE_UP, late) == 0
    with pytest.raises(ValueError, match="4 devices are more than 2"):
        alone = replace(MADE_UP, node=2, far=None)
        collective_seconds(Collective("all-reduce", 10**9, 4, 1), alone, PLAIN)


def test_a_torus_that_is_cut_has_half_the_links():
    v5e = ACCELERATORS[1]
    part, whole = (
        collective_seconds(Collective("all-gather", 10**9, n, 1), v5e, PLAIN) * n / (n - 1)
        for n in (64, 256)
    )
    assert part == pytest.approx(2 * whole)


def test_predictions_hide_the_blocks_collectives_as_far_as_their_pass_takes():
    config = SIZES["tiny"].model
    compute = compute_seconds(config, 32, MADE_UP, PLAIN)
    assert compute == 3 * config.forward_flops() * 32 / 1e12
    size = round(compute * 1e9)  # a gather among 2 of so many bytes takes half the computation
    backward = "transpose(jvp())"
    found = [
        Collective("all-gather", size, 2, 2, backward),  # as long as the step: a third of it waits
        Collective("all-gather", size, 2, 1, backward),  # waits whole
    ]
    made = predict(config, 32, 1000, found, MADE_UP, PLAIN)
    assert made.communication == pytest.approx(1.5 * compute, rel=1e-4)
    assert made.exposed == pytest.approx((1 / 3 + 1 / 2) * compute, rel=1e-4)
    assert made.efficiency == pytest.approx((1 / 2.5, 1 / (1 + 5 / 6)), rel=1e-4)
    assert made.fits
    assert not predict(config, 32, 10**8, found, MADE_UP, PLAIN).fits
    assert predict(config, 32, 10**8, found, MADE_UP, PLAIN, pieces=8).fits


def test_groups_and_widths_are_those_of_what_is_predicted():
    found = [
        Collective("all-reduce", 800, 8, 2, "transpose(jvp())"),
        Collective("all-reduce", 4, 8, 1, "jvp()"),
        Collective("all-gather", 80, 8, 1, "jvp()"),
    ]
    assert [one.nbytes for one in as_bfloat16(found)] == [400, 4, 40]
    assert {one.group for one in among(found, 64)} == {64}
