"""Collecting rules with quantised states give the rule's own merge of the decoded values."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.merging import MergeRule, collecting, fold, kth_magnitude, merged, rules
from magmax_jax.merging.quantised import dequantise
from magmax_jax.merging.quantised_rule import quantised
from magmax_jax.merging.task_vectors import tree_bytes


def draw(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


THETA_0 = {
    "blocks": {"kernel": draw(0, 3, 20, 33), "bias": draw(1, 3, 9)},
    "steps": jnp.int32(4),
    "matrix": draw(2, 17, 12),
}
MODELS = [
    jax.tree.map(
        lambda x, t=t: x if x.dtype == jnp.int32 else x + 0.01 * draw(t, *x.shape), THETA_0
    )
    for t in range(5, 8)
]


def folded(rule: MergeRule):
    state = rule.init(THETA_0)
    for model in MODELS:
        state = fold(rule, state, model, THETA_0)
    return state


def decoded(state) -> tuple:
    taus = []
    for codes in state:
        taus.append(dequantise(codes, taus[-1] if taus else None))
    return tuple(taus)


@pytest.mark.parametrize(
    "rule",
    [
        rules.ties(),
        rules.ties(threshold="per_tensor", elect="count"),
        rules.consensus(),
        rules.tsv_m(stacked=True),
        rules.model_stock(),
        rules.named("della", 5),
    ],
    ids=["ties", "ties per tensor", "consensus", "tsv_m", "model_stock", "della"],
)
def test_the_merge_equals_the_rules_on_decoded_task_vectors(rule):
    few = quantised(rule, 8)
    state = folded(few)
    assert tree_bytes(state) < 0.3 * tree_bytes(folded(rule))  # with short rows
    found = merged(few, state, THETA_0, 0.7)
    expected = merged(rule, decoded(state), THETA_0, 0.7)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_an_element_wise_rule_gets_one_layer_at_a_time():
    seen = []

    def finalize(taus):
        seen.extend(leaf.shape for leaf in jax.tree.leaves(taus))
        return taus[-1]

    rule = collecting(finalize, 1.0, scope="entry", reads_names=False)
    few = quantised(rule, 4)
    state = folded(few)
    found = few.finalize(state)
    jax.tree.map(np.testing.assert_array_equal, found, decoded(state)[-1])
    assert set(seen) == {(20, 33), (3, 9), (17, 12)}


def test_a_rule_on_whole_models_gets_whole_models():
    rule = collecting(lambda taus: jax.tree.map(lambda *leaves: sum(leaves), *taus), 1.0)
    few = quantised(rule, 8)
    state = folded(few)
    expected = rule.finalize(decoded(state))
    jax.tree.map(np.testing.assert_array_equal, few.finalize(state), expected)


def test_a_survey_is_answered_from_the_decoded_task_vectors():
    @dataclass
    class Asked:
        count: int
        size: int
        kth: list
        total: np.ndarray
        tensors: list
        stacks: list

    answers = []

    def survey(vectors):
        answers.append(
            Asked(
                vectors.count,
                vectors.size,
                vectors.kth_magnitudes(100),
                vectors.total(lambda taus: jnp.stack([(tau > 0).sum() for tau in taus])),
                [(theta_0, list(taus)) for theta_0, taus in vectors.tensors()],
                [(names, theta_0, list(taus)) for names, theta_0, taus in vectors.stacks()],
            )
        )
        with pytest.raises(TypeError, match="gives float32, not integers"):
            vectors.total(lambda taus: sum(taus))
        return rule._replace(survey=None)

    rule = collecting(lambda taus: taus[0], 1.0, scope="tensor", survey=survey)
    few = quantised(rule, 8)
    state = folded(few)
    few.finalize(state)
    (asked,), taus = answers, decoded(state)
    floats = [[leaf for leaf in jax.tree.leaves(tau) if leaf.dtype == jnp.float32] for tau in taus]
    assert (asked.count, asked.size) == (3, sum(leaf.size for leaf in floats[0]))
    assert asked.kth == [float(kth_magnitude(tau, 100)) for tau in taus]
    assert asked.total.tolist() == [sum(int((x > 0).sum()) for x in leaves) for leaves in floats]
    names = ["blocks.bias", "blocks.kernel", "matrix"]
    assert [list(theta_0) for theta_0, _ in asked.tensors] == [[name] for name in names]
    assert [stack[0] for stack in asked.stacks] == [[name] for name in names]
    for (name, (_, tensors)), (_, _, stacks) in zip(
        zip(names, asked.tensors, strict=True), asked.stacks, strict=True
    ):
        for tau, tensor, stack in zip(taus, tensors, stacks, strict=True):
            flat = {
                jax.tree_util.keystr(path, simple=True, separator="."): leaf
                for path, leaf in jax.tree_util.tree_leaves_with_path(tau)
            }
            np.testing.assert_array_equal(tensor[name], flat[name])
            np.testing.assert_array_equal(stack[name], flat[name][None])


def test_a_rule_with_another_state_is_refused():
    rule = collecting(lambda taus: taus[0], 1.0)._replace(init=lambda pretrained: (jnp.int32(0),))
    with pytest.raises(
        UserError, match=r"checkpoint\.task_bits: .* one of the merges has a different one"
    ):
        quantised(rule, 8).init(THETA_0)


def test_equal_rules_stay_equal():
    assert quantised(rules.ties(), 8) is quantised(rules.ties(density=0.2), 8)
