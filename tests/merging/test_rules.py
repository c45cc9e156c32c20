"""Properties that every rule must have, whatever its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import fold, merged, rules, task_vector
from tests.merging.cases import COLLECTING, EVERY, STREAMING, TAUS, folded, models, theta

EVERY_RULE = pytest.mark.parametrize("name", EVERY)
STREAMING_RULE = pytest.mark.parametrize("name", STREAMING)

PLAIN = ["max_magnitude", "provenance", "min_magnitude", "average", "task_arithmetic", "ema",
         "weighted_average", "random_mix", "emr", "fisher", "adam_weighted",
         "adam_selected", "opcm", "tsv_m", "tsv_stream", "negmerge", "scaled_last",
         "max_increment", "ema_magmax", "norm_matched", "sparse_task_arithmetic", "multislerp",
         "sce"]  # fmt: skip
"""Rules that leave a single task vector unchanged."""

THINNING = {
    "dare": rules.dare(drop=0.0),
    "breadcrumbs": rules.breadcrumbs(0.0, 0.0),
    "magnitude_prune": rules.magnitude_prune(density=1.0),
    "global_prune": rules.magnitude_prune(density=1.0, threshold="global"),
    "ties": rules.ties(density=1.0),
    "peft_ties": rules.ties(density=1.0, threshold="per_tensor"),
    "della": rules.della(density=1.0, epsilon=0.0),
    "consensus": rules.consensus(votes=1),
    "lines": rules.lines(alpha=1.0, beta=0.0),
    "mergekit_slerp": rules.slerp(t=1.0, whole=True),
    "mergekit_ties": rules.sparse_task_arithmetic(None, "magnitude", consensus=True),
}
"""Rules that leave it unchanged if they drop nothing."""

SYMMETRIC = ["max_magnitude", "min_magnitude", "average", "task_arithmetic", "breadcrumbs",
             "magnitude_prune", "global_prune", "emr", "fisher", "adam_weighted", "adam_selected",
             "iso_c", "ties", "peft_ties", "model_stock", "tsv_m", "tsv_stream", "consensus",
             "slerp", "negmerge", "norm_matched", "lines", "linear_combination",
             "sparse_task_arithmetic", "mergekit_breadcrumbs", "nuslerp", "multislerp", "sce",
             "sce_top"]  # fmt: skip
"""Rules in which order does not matter, up to rounding (slerp at its midpoint)."""


def assert_same(actual, expected):
    """The same bits in every leaf, signed zeros included."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), actual, expected
    )


def test_every_rule_is_named_and_tested():
    variants = {"provenance", "global_prune", "peft_ties", "unnormalised_combination", "sce_top"}
    tested = {name for name in EVERY if name not in variants and "mergekit" not in name}
    assert tested == set(rules.RULES)
    assert all(rule.streaming for rule in STREAMING.values())
    assert not any(rule.streaming for rule in COLLECTING.values())


@pytest.mark.parametrize("name", [*PLAIN, *THINNING])
def test_one_model_merges_to_itself_at_scale_1(name):
    rule, model = THINNING.get(name, EVERY[name]), models(name, count=1)
    expected = theta(1) | {"steps": np.int32(0)}
    itself, _ = mm.merge(theta(0), model, rule, scale=1.0, return_state=True)
    assert_close(itself, expected)


@EVERY_RULE
def test_scale_0_is_the_pretrained(name):
    assert_same(mm.merge(theta(0), models(name), EVERY[name], scale=0.0), theta(0))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_order_does_not_matter(name):
    forward, backward = (
        mm.merge(theta(0), m, EVERY[name]) for m in (models(name), models(name)[::-1])
    )
    assert_close(forward, backward)


@STREAMING_RULE
def test_the_state_does_not_grow_and_outlives_finalize(name):
    rule, theta_0 = STREAMING[name], theta(0)
    state = rule.init(theta_0)
    structure = jax.eval_shape(lambda: state)
    for model in models(name):
        state = fold(rule, state, model, theta_0)
        assert jax.eval_shape(lambda: state) == structure  # noqa: B023
    assert_same(merged(rule, state, theta_0, 0.5), merged(rule, state, theta_0, 0.5))


@STREAMING_RULE
def test_continuing_after_a_merge_equals_merging_all(name):
    """Online fold == batch: finalizing in between changes nothing."""
    rule, theta_0 = STREAMING[name], theta(0)
    state = rule.init(theta_0)
    for count, model in enumerate(models(name), 1):
        state = fold(rule, state, model, theta_0)
        so_far, _ = mm.merge(theta_0, models(name)[:count], rule, scale=0.5, return_state=True)
        assert_same(merged(rule, state, theta_0, 0.5), so_far)


@EVERY_RULE
def test_jitted_and_plain_results_are_the_same(name):
    """The same bits, unless the compiler may fuse a product with a sum; then up to rounding."""
    rule, theta_0 = EVERY[name], theta(0)
    state = rule.init(theta_0)
    for model in models(name):
        if rule.needs_fisher:
            tau = rules.Informed(task_vector(model.params, theta_0), model.fisher)
        else:
            tau = task_vector(model, theta_0)
        state = rule.update(state, tau)
    plain = mm.apply_task_vector(theta_0, rule.finalize(state), 0.5)
    assert_close(mm.merge(theta_0, models(name), rule, 0.5), plain)
    if not rule.streaming:
        jitted = jax.jit(rule.finalize)(state)
        assert_close(mm.apply_task_vector(theta_0, jitted, 0.5), plain)


def small(name: str, dtype) -> list[dict]:
    """theta_0 and models of a vector, a scalar and an integer."""

    def cast(tree):
        bias = jnp.asarray(tree["bias"], jnp.bfloat16).astype(dtype)
        return {"w": bias, "scalar": bias[0], "steps": tree["steps"]}

    def both(model):
        return rules.Informed(*map(cast, model)) if EVERY[name].needs_fisher else cast(model)

    return [cast(theta(0)), *map(both, models(name))]


@EVERY_RULE
def test_results_have_theta_0s_dtypes_and_integers_pass_through(name):
    theta_0, *tasks = small(name, jnp.bfloat16)
    result = mm.merge(theta_0, tasks, EVERY[name])
    assert jax.eval_shape(lambda: result) == jax.eval_shape(lambda: theta_0)
    assert result["steps"] == 0


@pytest.mark.parametrize("name", ["average", "fisher", "opcm", "ties", "model_stock"])
def test_float16_and_bfloat16_are_merged_in_float32(name):
    half, single = (
        mm.merge(tree[0], tree[1:], EVERY[name])
        for tree in (small(name, jnp.bfloat16), small(name, jnp.float32))
    )
    for leaf in ("w", "scalar"):
        np.testing.assert_array_equal(half[leaf], single[leaf].astype(jnp.bfloat16))


@settings(max_examples=25, deadline=None)
@given(TAUS)
def test_max_magnitude_is_idempotent(taus):
    once = folded(rules.max_magnitude(), taus)
    np.testing.assert_array_equal(folded(rules.max_magnitude(), [*taus, once]), once)


@settings(max_examples=25, deadline=None)
@given(TAUS)
def test_one_task_vector_is_its_own_merge(taus):
    for name in ("max_magnitude", "min_magnitude", "average", "task_arithmetic", "random_mix",
                 "scaled_last", "max_increment", "ema_magmax"):  # fmt: skip
        np.testing.assert_array_equal(folded(EVERY[name], taus[:1]), taus[0])


def test_equal_rules_compare_equal_so_each_compiles_once():
    assert rules.max_magnitude() is rules.max_magnitude(provenance=False)
    assert rules.random_mix(1) is rules.random_mix(seed=1)
    assert rules.random_mix(1) is not rules.random_mix(2)
    assert rules.weighted_average([1, 2]) is rules.weighted_average(np.array([1.0, 2.0]))
    assert rules.named("dare", seed=2, drop=0.1) is rules.dare(0.1, 2)


def test_wrong_names_and_options_are_named():
    with pytest.raises(UserError, match="'tyes' is not a merge rule: choose from max_magnitude"):
        rules.named("tyes")
    with pytest.raises(UserError, match="ties has no option 'densty': its options are density"):
        rules.named("ties", densty=0.1)
    with pytest.raises(UserError, match="task_arithmetic has no option 'drop': it has none"):
        rules.named("task_arithmetic", drop=0.1)
    with pytest.raises(UserError, match="weighted_average needs weights"):
        rules.named("weighted_average")


@pytest.mark.parametrize(
    "make",
    [
        lambda: rules.weighted_average([]),
        lambda: rules.weighted_average([1.0, 0.0]),
        lambda: rules.ema(1.0),
        lambda: rules.fisher(0.0),
        lambda: rules.dare(1.0),
        lambda: rules.breadcrumbs(0.6, 0.4),
        lambda: rules.magnitude_prune(1.1),
        lambda: rules.magnitude_prune(threshold="layer"),
        lambda: rules.magnitude_prune(thresholds=[1.0]),
        lambda: rules.ties(-0.1),
        lambda: rules.ties(elect="frequency"),
        lambda: rules.ties(aggregate="median"),
        lambda: rules.ties(threshold="per_tensor", thresholds=[1.0]),
        lambda: rules.della(0.95, 0.1),
        lambda: rules.slerp(1.5),
        lambda: rules.consensus(-1),
        lambda: rules.opcm(2.0),
        lambda: rules.ema_magmax(1.1),
        lambda: rules.norm_matched("tyes"),
        lambda: rules.norm_matched("weighted_average"),
        lambda: rules.norm_matched("ties"),
        lambda: rules.norm_matched("opcm"),
        lambda: rules.lines("tyes"),
        lambda: rules.lines(layers=0),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make()


def test_half_precision_models_are_merged_in_float32():
    theta_0 = jnp.zeros(3, jnp.float16)
    models = [jnp.full(3, 60000, jnp.float16)] * 3  # their float16 sum would be infinite
    np.testing.assert_array_equal(mm.merge(theta_0, models, rules.average()), models[0])
