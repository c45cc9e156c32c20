"""Rules against results of peft and mergekit (`make_goldens.py`) for their variants."""

from pathlib import Path

import numpy as np
import pytest

from magmax_jax.merging import rules
from tests.merging.cases import folded

GOLDENS = np.load(Path(__file__).with_name("goldens.npz"))
TAUS, DENSITY = GOLDENS["taus"], float(GOLDENS["density"])
THEIRS = {"threshold": "per_tensor", "majority": 1}


@pytest.mark.parametrize(
    ("golden", "rule"),
    [
        ("peft_ties_mass", rules.ties(DENSITY, **THEIRS)),
        ("peft_ties_count", rules.ties(DENSITY, elect="count", **THEIRS)),
        ("mergekit_ties", rules.ties(DENSITY, **THEIRS)),
        ("peft_magnitude_prune", rules.magnitude_prune(DENSITY)),
    ],
)
def test_the_result_matches_theirs_bit_for_bit(golden, rule):
    assert np.count_nonzero(GOLDENS[golden]) > 40
    np.testing.assert_array_equal(folded(rule, TAUS), GOLDENS[golden])


def test_entries_that_cancel_show_that_peers_elect_plus():
    assert GOLDENS["peft_ties_mass"][0, 0] == 9 and GOLDENS["mergekit_ties"][1, 1] == 7
    minus = folded(rules.ties(DENSITY, threshold="per_tensor", majority=-1), TAUS)
    assert minus[0, 0] == -9 and minus[1, 1] == -7


def test_the_official_variant_differs():
    """It keeps one entry more and ranks entries of all tensors together."""
    official = folded(rules.ties(DENSITY), TAUS)
    assert (official != GOLDENS["peft_ties_mass"]).any()
