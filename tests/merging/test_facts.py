"""What a rule declares about itself is true, and no code checks its name instead."""

import ast
from pathlib import Path

import jax
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import kth_magnitude, rules
from tests.merging.cases import EVERY, folded, models, normal_taus, theta

PACKAGE = Path(mm.__file__).parent
ENTRYWISE = [name for name, rule in EVERY.items() if rule.scope == "entry"]
NAMELESS = [name for name, rule in EVERY.items() if not rule.reads_names]


class OneTensor:
    """In-memory task vectors of one tensor, as a rule's survey reads them."""

    def __init__(self, taus: np.ndarray):
        self.taus, self.count, self.size = taus, len(taus), taus[0].size

    def kth_magnitudes(self, k):
        return [float(kth_magnitude(tau, k)) for tau in self.taus]

    def total(self, function):
        halves = (self.taus[:, : self.size // 2], self.taus[:, self.size // 2 :])
        return sum(np.asarray(jax.jit(function)(tuple(half)), np.int64) for half in halves)

    def tensors(self):
        yield {"w": np.zeros_like(self.taus[0])}, ({"w": tau} for tau in self.taus)


def test_every_bundled_rule_works_out_of_core():
    assert {rule.scope for rule in EVERY.values()} == {"entry", "tensor"}


@pytest.mark.parametrize("name", ENTRYWISE)
def test_entries_may_come_in_any_order_and_in_pieces(name):
    taus = normal_taus(3, 101)
    rule = EVERY[name]
    if rule.survey:
        rule = rule.survey(OneTensor(taus))
        assert rule.survey is None and rule.scope == "entry"
    whole, shuffled = folded(EVERY[name], taus), np.random.default_rng(0).permutation(101)
    np.testing.assert_array_equal(folded(rule, taus[:, shuffled]), whole[shuffled])
    pieces = [folded(rule, taus[:, :40]), folded(rule, taus[:, 40:])]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("name", NAMELESS)
def test_renaming_tensors_changes_nothing(name):
    def renamed(tree):
        if isinstance(tree, rules.Informed):
            return rules.Informed(*map(renamed, tree))
        return {"another." + key: leaf for key, leaf in tree.items()}

    merged = mm.merge(theta(0), models(name), EVERY[name])
    again = mm.merge(renamed(theta(0)), [renamed(model) for model in models(name)], EVERY[name])
    jax.tree.map(np.testing.assert_array_equal, renamed(merged), again)


@pytest.mark.parametrize(
    "name", [name for name, r in EVERY.items() if r.reads_names and not r.of_leaf]
)
def test_rules_that_read_names_draw_or_scale_by_them(name):
    taus = normal_taus(3, 200)
    one, two = (folded_as(EVERY[name], key, taus) for key in ("layers.0", "layers.1"))
    assert (one != two).any()


def folded_as(rule, key: str, taus) -> np.ndarray:
    state = rule.init({key: taus[0]})
    for tau in taus:
        state = rule.update(state, {key: tau})
    return np.asarray(rule.finalize(state)[key])


@pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])
def test_rules_of_matrices_read_names_unless_shapes_decide(make):
    by_shape = make(matrices="by_shape")
    assert make().reads_names and not by_shape.reads_names
    assert make(matrices="by_shape", averaged=("b",)).reads_names
    assert make(maps=[("w", False, 1, 0)]).reads_names
    for name in ("fc1.weight", "attn.in_proj_weight", "token_embedding.weight"):
        leaf_rule = make().of_leaf(name, (12, 4)).rule
        assert not leaf_rule.reads_names
        assert leaf_rule == make().of_leaf(f"other.{name}", (12, 4)).rule


@pytest.mark.parametrize("name", EVERY)
def test_too_few_or_too_many_models_are_not_merged(name):
    rule, taus = EVERY[name], [{"w": tau} for tau in normal_taus(5, 6)]
    if rule.needs_fisher:
        taus = [rules.Informed(tau, jax.tree.map(abs, tau)) for tau in taus]

    def fails(count: int) -> bool:
        state = rule.init({"w": np.zeros(6, np.float32)})
        try:
            for tau in taus[:count]:
                state = rule.update(state, tau)
            return bool(np.isnan(rule.finalize(state)["w"]).any())
        except UserError:
            return True

    most = rule.most_models or len(taus)
    assert [count for count in range(1, 6) if not fails(count)] == list(
        range(rule.fewest_models, most + 1)
    )


def test_a_rule_that_needs_fishers_accepts_only_models_with_them():
    needing = [name for name, rule in EVERY.items() if rule.needs_fisher]
    assert needing
    for name in needing:
        with pytest.raises(UserError, match="Informed"):
            EVERY[name].update(EVERY[name].init(np.zeros(6, np.float32)), normal_taus(6))


def test_a_states_options_are_the_rules():
    for name in rules.RULES:
        rule = EVERY[name]
        assert dict(rule.state_options).keys() <= rules.options(name).keys()
        assert rule.per_model is None or rule.per_model in rules.options(name)


def test_no_code_depends_on_a_rules_name():
    """Outside its own module a rule's name is only looked up, never compared with."""
    compared = []
    for file in PACKAGE.rglob("*.py"):
        if file.is_relative_to(PACKAGE / "merging" / "rules"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare | ast.MatchValue | ast.Set):
                compared += [
                    f"{file}:{node.lineno} {part.value}"
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and part.value in list(rules.RULES)
                ]
    assert not compared
