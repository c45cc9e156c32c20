"""Rules on whole tensors, against their formulas in float64 with other decompositions."""

import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.merging import oracle_matrix as oracle
from tests.merging.cases import folded, normal_taus

SHAPES = pytest.mark.parametrize("shape", [(12, 8), (5, 9), (6, 6)])


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-5 * np.abs(expected).max())


@SHAPES
def test_iso_c_matches_the_oracle_and_its_spectrum_is_flat(shape):
    taus = normal_taus(3, *shape)
    merged = folded(rules.iso_c(), taus)
    close(merged, oracle.iso_c(taus.astype(float)))
    spectrum = np.linalg.svd(merged, compute_uv=False)
    close(spectrum, np.full(len(spectrum), np.linalg.svd(taus.sum(0), compute_uv=False).mean()))


@pytest.mark.parametrize(
    ("shape", "alpha"), [((12, 8), 0.5), ((5, 9), 0.5), ((6, 6), 0.5), ((6, 6), 0.0), ((5, 9), 0.9)]
)
def test_opcm_matches_the_oracle(shape, alpha):
    taus = normal_taus(4, *shape)
    close(folded(rules.opcm(alpha), taus), oracle.opcm(taus.astype(float), alpha))


@pytest.mark.parametrize("others", ["averaged", "added"])
def test_opcm_keeps_the_mean_norm_of_the_tasks_over_all_leaves(others):
    rule, pairs = (
        rules.opcm(others=others),
        zip(normal_taus(3, 6, 4), normal_taus(3, 5), strict=True),
    )
    taus = [{"w": w, "b": b} for w, b in pairs]
    state = rule.init(taus[0])
    for tau in taus:
        state = rule.update(state, tau)

    def norm(tau):
        return np.sqrt(sum((np.asarray(leaf, float) ** 2).sum() for leaf in tau.values()))

    merged = rule.finalize(state)
    np.testing.assert_allclose(norm(merged), np.mean([norm(tau) for tau in taus]), rtol=1e-5)
    raw = {
        "w": oracle.opcm_projected(np.stack([tau["w"] for tau in taus]).astype(float), 0.5),
        "b": sum(tau["b"].astype(float) for tau in taus) / (3 if others == "averaged" else 1),
    }
    for name in raw:
        close(merged[name], raw[name] * norm(merged) / norm(raw))


def test_opcm_refuses_unknown_options():
    with pytest.raises(UserError, match="averaged or added"):
        rules.opcm(others="summed")


def test_opcm_adds_to_a_matrix_that_no_task_has_changed():
    tau = normal_taus(6, 4)
    state = (rule := rules.opcm()).init(tau)
    for leaf in (np.zeros_like(tau), tau):
        state = rule.update(state, leaf)
    np.testing.assert_array_equal(state.tau, tau)
    unchanged = rules.opcm()
    nothing = unchanged.update(unchanged.init(tau), np.zeros_like(tau))
    np.testing.assert_array_equal(unchanged.finalize(nothing), np.zeros_like(tau))


@SHAPES
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_tsv_m_matches_the_oracle(shape, tasks):
    taus = normal_taus(tasks, *shape)
    close(folded(rules.tsv_m(), taus), oracle.tsv_m(taus.astype(float)))


def test_tsv_m_with_more_tasks_than_components_keeps_one_per_task():
    taus = normal_taus(3, 2, 9)
    assert np.linalg.matrix_rank(folded(rules.tsv_m(), taus)) == 2


@pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])
def test_stacked_matrices_are_merged_one_by_one_if_requested(make):
    taus = normal_taus(2, 3, 6, 5)
    rescale = {"rescale": 1.0} if make is rules.opcm else {}
    stacked = folded(make(stacked=True, **rescale), taus)
    for layer in range(3):
        close(stacked[layer], folded(make(**rescale), taus[:, layer]))
    close(folded(make(**rescale), taus), taus.mean(0))  # a convolution, say


@pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])
def test_empty_leaves_do_not_affect_others(make):
    """Empty matrices and stacks next to a matrix."""
    empty = {"none": np.zeros((0, 4), np.float32), "low": np.zeros((4, 0), np.float32)}
    empty["stack"] = np.zeros((0, 3, 2), np.float32)
    taus = normal_taus(3, 6, 4)
    state = (rule := make(stacked=True)).init({"w": taus[0], **empty})
    for tau in taus:
        state = rule.update(state, {"w": tau, **empty})
    merged = rule.finalize(state)
    np.testing.assert_array_equal(merged["w"], folded(make(), taus))
    assert {name: merged[name].shape for name in empty} == {n: a.shape for n, a in empty.items()}


@pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])
def test_leaves_are_averaged_by_name(make):
    taus = [{"text_projection": {"kernel": tau}} for tau in normal_taus(2, 6, 5)]
    options = {"averaged": ["text_projection"]} | ({"rescale": 1.0} if make is rules.opcm else {})
    rule = make(**options)
    state = rule.init(taus[0])
    for tau in taus:
        state = rule.update(state, tau)
    merged = rule.finalize(state)["text_projection"]["kernel"]
    close(merged, sum(tau["text_projection"]["kernel"] for tau in taus) / 2)


@pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])
def test_an_empty_part_of_names_would_average_every_leaf(make):
    with pytest.raises(UserError, match="empty part"):
        make(averaged=("text_projection", ""))


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_model_stock_matches_the_oracle(tasks):
    taus = normal_taus(tasks, 4, 5) + 1  # partly agreeing models
    close(folded(rules.model_stock(), taus), oracle.model_stock(taus.astype(float)))


def test_model_stock_keeps_agreement_and_drops_contradiction():
    tau = normal_taus(7)
    close(folded(rules.model_stock(), [tau, tau, tau]), tau)
    np.testing.assert_array_equal(folded(rules.model_stock(), [tau, -tau]), np.zeros(7))
    np.testing.assert_array_equal(folded(rules.model_stock(), [0 * tau, 0 * tau]), np.zeros(7))
    with pytest.raises(UserError, match="model_stock needs two models"):
        folded(rules.model_stock(), [tau])


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_matches_the_oracle(t):
    taus = normal_taus(2, 4, 5)
    close(folded(rules.slerp(t), taus), oracle.slerp(taus.astype(float), t))


def test_slerp_is_linear_where_there_is_no_arc_and_takes_two_models():
    tau = normal_taus(7)
    close(folded(rules.slerp(0.25), [tau, 2 * tau]), 1.25 * tau)
    close(folded(rules.slerp(0.25), [tau, 0 * tau]), 0.75 * tau)
    for count in (1, 3):
        with pytest.raises(
            UserError, match=f"slerp merges exactly two models: give two, not {count}"
        ):
            folded(rules.slerp(), [tau] * count)
