"""A model too large for memory can be merged tensor by tensor with the same bits as all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.merging import count_at_least, kth_magnitudes_counted, rules, task_vector
from tests.merging.cases import EVERY, models, theta

LEAVES = list(theta(0))
SIZE = sum(leaf.size for leaf in theta(0).values() if leaf.dtype == np.float32)


def thresholds(tasks, density: float) -> list[np.float32]:
    """Thresholds of all tasks, in passes over one tensor at a time."""

    def count(pivots):
        total = np.zeros(pivots.shape, int)
        for name in LEAVES:
            for own, task in enumerate(tasks):
                tau = task_vector({name: task[name]}, {name: theta(0)[name]})[name]
                if tau.dtype == np.float32:
                    total[own] += np.asarray(jax.jit(count_at_least)(tau, pivots[own]))
        return total

    samples = [np.float32([0.1])] * len(tasks)
    return list(kth_magnitudes_counted(count, SIZE, rules.global_rank(SIZE, density), samples))


def majority(tasks, least) -> int:
    taus = [task_vector(task, theta(0)) for task in tasks]
    merged = [name for name in LEAVES if name != "steps"]
    balances = [rules.sign_balance([t[n] for t in taus], jnp.array(least), "mass") for n in merged]
    return int(np.sign(sum(map(int, balances))))


def rescale(tasks) -> float:
    taus = [task_vector(task, theta(0)) for task in tasks]
    merged, norms = {}, [{} for _ in taus]
    for name in sorted(set(LEAVES) - {"steps"}):
        state = (rule := rules.opcm(stacked=True, rescale=1.0)).init({name: theta(0)[name]})
        for tau, norm in zip(taus, norms, strict=True):
            state = jax.jit(rule.update)(state, {name: tau[name]})
            norm[name] = rules.squared_norm(tau[name])
        merged[name] = rules.squared_norm(rule.finalize(state)[name])
    return float(rules.opcm_rescale([list(n.values()) for n in norms], list(merged.values())))


def rule_for_one_leaf(name: str, tasks) -> mm.MergeRule:
    """The rule with whole-vector numbers that cannot be computed from one leaf."""
    if name == "ties":
        least = thresholds(tasks, 0.2)
        return rules.ties(thresholds=least, majority=majority(tasks, least))
    if name == "global_prune":
        return rules.magnitude_prune(threshold="global", thresholds=thresholds(tasks, 0.2))
    if name == "opcm":
        return rules.opcm(stacked=True, rescale=rescale(tasks))
    return EVERY[name]


@pytest.mark.parametrize("name", EVERY)
def test_one_leaf_at_a_time_gives_the_same_bits_as_the_whole(name):
    tasks = models(name)
    whole = mm.merge(theta(0), tasks, EVERY[name], scale=0.5)
    rule = rule_for_one_leaf(name, tasks)
    for leaf in ("block.kernel", "blocks"):
        alone = [
            rules.Informed({leaf: task.params[leaf]}, {leaf: task.fisher[leaf]})
            if rule.needs_fisher
            else {leaf: task[leaf]}
            for task in tasks
        ]
        merged = mm.merge({leaf: theta(0)[leaf]}, alone, rule, scale=0.5)
        assert np.asarray(merged[leaf]).tobytes() == np.asarray(whole[leaf]).tobytes(), leaf
