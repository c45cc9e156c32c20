"""`tsv_stream`: the result of `tsv_m` on all task vectors, from a state of constant size."""

import jax
import numpy as np
import pytest

from magmax_jax.merging import rules
from tests.merging import oracle_matrix as oracle
from tests.merging.cases import folded, normal_taus
from tests.merging.test_matrices import close


@pytest.mark.parametrize("shape", [(12, 7), (5, 9), (6, 6)])
def test_after_every_task_the_merge_equals_tsv_ms(shape):
    taus = normal_taus(5, *shape)
    state = (rule := rules.tsv_stream()).init(taus[0])
    for seen, tau in enumerate(taus, start=1):
        state = rule.update(state, tau)
        merged = rule.finalize(state)
        close(merged, oracle.tsv_m(taus[:seen].astype(float)))
        close(merged, folded(rules.tsv_m(), taus[:seen]))


def test_the_state_is_at_most_two_task_vectors_however_many_tasks_there_are():
    rule = rules.tsv_stream()
    for shape in ((64, 64), (64, 256), (256, 64), (64,)):
        state, tau = rule.init(np.zeros(shape, np.float32)), np.ones(shape, np.float32)
        sizes = set()
        for _ in range(3):
            sizes.add(sum(leaf.size for leaf in jax.tree.leaves(state)))
            state = jax.eval_shape(rule.update, state, tau)
        assert len(sizes) == 1 and sizes.pop() <= 2 * np.prod(shape) + 2


def test_with_more_tasks_than_components_the_strongest_are_kept():
    """Three components: of five tasks with one component each, the two weakest are dropped."""
    u, v = (np.linalg.qr(normal_taus(8, 8, seed=seed))[0] for seed in (0, 1))
    strengths = [5.0, 1.0, 4.0, 2.0, 3.0]
    taus = [np.float32(s * np.outer(u[:3, i], v[:, i])) for i, s in enumerate(strengths)]  # (3, 8)
    state = (rule := rules.tsv_stream()).init(taus[0])
    for tau in taus:
        state = rule.update(state, tau)
    kept = np.linalg.norm(np.asarray(state.left), axis=0)
    norms = sorted(np.linalg.norm(tau) for tau in taus)
    np.testing.assert_allclose(sorted(kept), norms[2:], rtol=1e-5)


def test_other_leaves_are_averaged():
    taus = normal_taus(3, 7)
    close(folded(rules.tsv_stream(), taus), taus.mean(0))
