"""Above a number of tasks, rules that collect task vectors loop over one array of them."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.merging import rules
from magmax_jax.merging.numerics import over_tasks
from magmax_jax.merging.rule import MergeRule
from magmax_jax.merging.rules.by_leaf import by_leaf
from magmax_jax.registry import RULES

TASKS = 5
RANKED = {"densities": (0.5,), "epsilons": (0.1,)}
OF_EACH = {
    "ties": rules.ties(),
    "ties, tensor by tensor": rules.ties(threshold="per_tensor"),
    "ties, known majority": rules.ties(threshold="per_tensor", majority=1),
    "ties, by count": rules.ties(elect="count", aggregate="sum"),
    "ties, largest": rules.ties(aggregate="max"),
    "consensus": rules.consensus(),
    "consensus of increments": rules.consensus(increments=True),
    "della": rules.della(),
    "model_stock": rules.model_stock(),
    "model_stock, by pairs": rules.model_stock(least=1e-6),
    "model_stock, by row": rules.model_stock(by_row=True),
    "multislerp": rules.multislerp(),
    "multislerp of whole models": rules.multislerp(whole=True),
    "linear_combination": rules.linear_combination(normalize=False),
    "sparse_task_arithmetic": rules.sparse_task_arithmetic(consensus=True, normalize=True),
    "sparse_task_arithmetic, thinned": rules.sparse_task_arithmetic(thin="ranked", **RANKED),
    "sce": rules.sce(),
    "sce, selecting": rules.sce(0.5),
    "tsv_m": rules.tsv_m(),
    "tsv_m of stacks": rules.tsv_m(stacked=True),
    "lines": rules.lines("consensus", layers=2),
    "by leaf": by_leaf(lambda name: rules.sce() if name == "a" else rules.consensus()),
}
"""Rules for any number of models."""
STACKING = [name for name, rule in OF_EACH.items() if rule.of_stack]


def compared(names):
    """Most rules only in the slow suite: every program is compiled in two forms."""
    often = ("consensus", "sparse_task_arithmetic")
    return [name if name in often else pytest.param(name, marks=pytest.mark.slow) for name in names]


def tree(seed: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = {"a": (8, 12), "blocks.1.b": (7,), "c.weight": (3, 6, 8), "qkv.weight": (18, 6)}
    found = zip(shapes.items(), keys, strict=True)
    return {name: jax.random.normal(key, shape) for (name, shape), key in found}


@pytest.fixture(scope="module")
def models():
    return [tree(seed) for seed in range(TASKS + 1)]


@pytest.mark.parametrize("name", compared(OF_EACH))
def test_a_loop_gives_what_the_unrolled_program_gives(models, monkeypatch, name):
    theta_0, *others = models
    unrolled = mm.merge(theta_0, others, OF_EACH[name])
    monkeypatch.setattr(over_tasks, "UNROLLED", TASKS - 1)
    looped = mm.merge(theta_0, others, OF_EACH[name])
    for leaf, expected in unrolled.items():
        np.testing.assert_allclose(looped[leaf], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", compared(STACKING))
def test_one_array_of_all_task_vectors_is_a_state(models, name):
    rule = OF_EACH[name]
    theta_0, *taus = models
    state = rule.init(theta_0)
    for tau in taus:
        state = rule.update(state, tau)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *taus)
    found = rule.finalize(rule.of_stack(theta_0, stack))
    for leaf, expected in rule.finalize(state).items():
        np.testing.assert_allclose(found[leaf], expected, rtol=2e-5, atol=2e-5)


def operations(jaxpr) -> int:
    """Number of operations in a program, including those within its loops."""
    inner = [jax.extend.core.jaxprs_in_params(equation.params) for equation in jaxpr.eqns]
    return len(jaxpr.eqns) + sum(operations(each) for found in inner for each in found)


def size(rule: MergeRule, tasks: int) -> int:
    shapes = jax.eval_shape(lambda: tree(0))
    stack = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((tasks, *leaf.shape), leaf.dtype), shapes
    )
    merge = lambda theta_0, taus: rule.finalize(rule.of_stack(theta_0, taus))  # noqa: E731
    return operations(jax.make_jaxpr(merge)(shapes, stack).jaxpr)


@pytest.mark.parametrize("name", STACKING)
def test_a_program_is_as_large_for_any_number_of_tasks(name):
    assert size(OF_EACH[name], 40) == size(OF_EACH[name], 80)


def test_every_bundled_rule_that_collects_many_models_loops():
    """A new rule must appear above."""
    collecting = {
        name
        for name, build in RULES.items()
        if name not in ("weighted_average", "lines", "norm_matched")
        and not (rule := build()).streaming
        and rule.most_models is None
    }
    assert collecting == {name.split(",")[0].split(" ")[0] for name in OF_EACH} - {"lines", "by"}


def test_adding_a_task_vector_does_not_visit_those_before(models, monkeypatch):
    """With them, the time of a merge would grow with the square of the number of models."""
    visited = []
    flatten = jax.tree.flatten

    def counted(tree, *args, **named):
        leaves, structure = flatten(tree, *args, **named)
        visited.append(len(leaves))
        return leaves, structure

    theta_0, *taus = models
    rule = rules.consensus()
    state = rule.init(theta_0)
    for _ in range(40):
        state = rule.update(state, taus[0])
    monkeypatch.setattr(jax.tree, "flatten", counted)
    monkeypatch.setattr(jax.tree, "leaves", lambda tree, *a, **k: counted(tree, *a, **k)[0])
    after = rule.update(state, taus[1])
    assert len(after) == 41
    assert max(visited, default=0) <= 2 * len(theta_0)
