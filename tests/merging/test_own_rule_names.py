"""`module:function` names a user's own rule, as `ties` names a bundled one."""

import importlib
import runpy
import sys

import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax import merging
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from magmax_jax.registry import RULES, Registry
from tests.helpers.own_rules import SOURCE, forget, own, write  # noqa: F401

pytestmark = pytest.mark.usefixtures("own")

THETA_0 = {"w": np.zeros(2, np.float32)}
MODELS = [{"w": np.float32([a, -a])} for a in (1, 2, 9)]


def merged(rule: mm.MergeRule) -> list[float]:
    return mm.merge(THETA_0, MODELS, rule, 1.0)["w"].tolist()


def test_a_rule_is_found_in_the_working_directory():
    before = list(sys.path)
    assert merged(rules.named("my_rules:median")) == [2, -2]
    assert merged(rules.named("my_rules:median", k=3)) == [6, -6]
    assert rules.options("my_rules:median") == {"k": 1}
    assert sys.path == before


def test_a_rule_in_a_package_and_a_value_in_place_of_a_function(own):  # noqa: F811
    (own / "my_package").mkdir()
    write(own / "my_package", "rules", "from my_rules import median as factory\n")
    assert merged(rules.named("my_package.rules:factory")) == [2, -2]
    forget("my_package", "my_package.rules")
    assert merged(rules.named("my_rules:ready")) == [2, -2]
    assert rules.options("my_rules:ready") == {}
    with pytest.raises(UserError, match="my_rules:ready has no option 'k': it has none"):
        rules.named("my_rules:ready", k=1)


def test_options_are_checked_like_those_of_a_bundled_rule():
    with pytest.raises(UserError, match="my_rules:median has no option 'n': its options are k"):
        rules.named("my_rules:median", n=1)
    with pytest.raises(UserError, match="my_rules:powered needs power"):
        rules.named("my_rules:powered")
    assert merged(rules.named("my_rules:powered", power=2)) == [4, -4]
    assert merged(rules.named("my_rules:anything")) == [4, -4]  # *args, **kwargs require nothing


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rules:medain", r"my_rules has no medain \(did you mean my_rules:median"),
        ("my_rules:nothing_like_it", "my_rules has no nothing_like_it$"),
        ("my_rules:SIZE", r"my_rules:SIZE is not a rule \(int\): name a function of the rule's"),
        ("my_rules:Median", "my_rules:Median is a class: name a function"),
        (
            "my_rules:forgetful",
            r"my_rules:forgetful does not return a MergeRule \(NoneType\): name a",
        ),
        ("nowhere:median", "nowhere:median: there is no module nowhere, neither installed nor in"),
        ("my_rules.deeper:median", "there is no module my_rules.deeper"),
        ("my_rules.py:median", "no module my_rules.py, .*: write my_rules:median$"),
        ("path/my_rules:median", "is not a merge rule: .*, or module:function for one of your own"),
        ("my_rules:", "'my_rules:' is not a merge rule"),
        ("my_rules:median:more", "is not a merge rule"),
    ],
)
def test_invalid_input_gives_a_one_sentence_error(name, message):
    with pytest.raises(UserError, match=message) as raised:
        rules.named(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0\n", r"broken:rule: importing broken fails \(ZeroDivisionError: division by zero\)"),
        ("import not_there\n", r"fails \(ModuleNotFoundError: No module named 'not_there'\)"),
        ("import sys\nsys.exit(3)\n", r"fails \(SystemExit: 3\)"),
        ("raise ValueError('one\\ntwo')\n", r"fails \(ValueError: two\)"),
        ("raise ValueError\n", r"fails \(ValueError: \)"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(own, source, message):  # noqa: F811
    write(own, "broken", source)
    with pytest.raises(UserError, match=message) as raised:
        rules.named("broken:rule")
    assert raised.value.__cause__ is not None


def test_inspecting_a_name_imports_nothing():
    RULES.check("my_rules:median")
    assert RULES.names_code("my_rules:median") and not RULES.names_code("median")
    assert "my_rules:median" not in RULES
    assert "my_rules" not in sys.modules
    # Names may come from untrusted files, such as a checkpoint's model_type.
    closed = Registry("model family", {})
    assert not closed.names_code("my_rules:median")
    with pytest.raises(UserError, match="'my_rules:median' is not a model family"):
        _ = closed["my_rules:median"]


def test_options_that_take_several_values_are_known_by_postponed_annotations_too(own):  # noqa: F811
    source = """
from __future__ import annotations
from collections.abc import Sequence
from typing import TYPE_CHECKING
import magmax_jax as mm
if TYPE_CHECKING:
    from nowhere import Unknown

def weighted(weights: Sequence[float], k: int = 1) -> mm.MergeRule:
    return mm.rules.average()

def unknown(weights: Sequence[float] | Unknown) -> mm.MergeRule:
    return mm.rules.average()
"""
    write(own, "postponed", source)
    assert rules.takes_several("postponed:weighted", "weights")
    assert not rules.takes_several("postponed:weighted", "k")
    assert not rules.takes_several("postponed:unknown", "weights")  # cannot be evaluated
    assert rules.takes_several("weighted_average", "weights")
    forget("postponed")


def test_a_module_may_register_what_it_defines():
    assert merged(rules.named("my_rules:halves")) == [6, -6]
    assert merged(rules.named("half_sum", part=1.0)) == [12, -12]
    assert [name for name in RULES if name == "half_sum"] == ["half_sum"]


def test_defining_a_function_again_replaces_it(own, monkeypatch):  # noqa: F811
    rules.named("my_rules:halves")
    write(own, "my_rules", SOURCE.replace("part: float = 0.5", "part: float = 0.25"))
    monkeypatch.syspath_prepend(own)
    importlib.reload(sys.modules["my_rules"])
    assert rules.options("half_sum") == {"part": 0.25}
    # The file may also be the main program: one function, defined twice.
    runpy.run_path(str(own / "my_rules.py"), run_name="__main__")
    with pytest.raises(UserError, match="there is already a merge rule 'half_sum'"):
        mm.rules.register("half_sum", rules.ties)
    with pytest.raises(UserError, match="there is already a merge rule 'ties'"):
        mm.rules.register("ties", rules.named)


def test_dir_lists_only_rules_but_everything_stays_reachable():
    assert dir(mm.rules) == sorted(RULES)
    assert "ties" in dir(mm.rules) and "collecting" not in dir(mm.rules)
    rules.named("my_rules:halves")
    assert "half_sum" in dir(mm.rules)
    assert mm.rules.half_sum is RULES["half_sum"]
    for name in ("named", "options", "register", "Sourced", "Informed", "MergeRule", "RULES"):
        assert getattr(mm.rules, name) is getattr(rules, name)
    for name in ("collecting", "leafwise", "factory", "squared_norm", "register"):
        assert getattr(mm.rules, name) is getattr(merging, name)
    with pytest.raises(AttributeError, match="has no attribute 'tyes'"):
        _ = mm.rules.tyes
