"""Flags that all benchmarks have."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.flags import BeforeFlags, Flags, PeersFlags, checked, matching
from magmax_jax.errors import UserError


def test_names_matching_any_pattern_are_chosen_in_their_own_order():
    names = ["ours", "torch, eager", "Ours"]
    assert matching(names, ["t*", "ours"], str) == ["ours", "torch, eager"]


@pytest.mark.parametrize("patterns", [["nobody", "o"], []])
def test_patterns_that_match_nothing_are_an_error(patterns):
    with pytest.raises(UserError, match="--only: nothing is named no"):
        matching(["ours"], patterns, str)


@dataclass(frozen=True)
class Some(Flags):
    a_b: tuple[float, ...] = ()
    workers: int | None = None
    there: bool = False


def test_numbers_must_be_positive_but_defaults_need_not():
    checked(Some())
    checked(Some(a_b=(1, 0.5), workers=0))
    for value in (0, -1):
        with pytest.raises(UserError, match=f"--a-b: {value} is not positive"):
            checked(Some(a_b=(1, value)))
    with pytest.raises(UserError, match="--repeats: 0 is not positive"):
        checked(Some(repeats=0))


def test_peers_python_must_be_executable_and_a_link_is_not_resolved(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert checked(PeersFlags(peers=link)).peers == link
    assert checked(PeersFlags(peers=Path(os.path.relpath(link)))).peers.is_absolute()
    (tmp_path / "text").write_text("")
    for wrong in (tmp_path, tmp_path / "text", tmp_path / "none"):
        with pytest.raises(UserError, match="is not a Python that can be run"):
            checked(PeersFlags(peers=wrong))


def test_another_checkout_must_hold_ours(tmp_path):
    (tmp_path / "magmax_jax").mkdir()
    with pytest.raises(UserError, match="contains no magmax_jax"):
        checked(BeforeFlags(before=tmp_path))
    (tmp_path / "magmax_jax" / "__init__.py").touch()
    assert checked(BeforeFlags(before=tmp_path)).before == tmp_path
