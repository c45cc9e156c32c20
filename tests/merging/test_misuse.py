"""Arguments of `merge` as users pass them: accepted if unambiguous, else refused in a sentence."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.errors import UserError

THETA_0 = {"w": jnp.zeros(2)}
MODEL = {"w": jnp.array([1.0, -2.0])}
INFORMED = mm.rules.Informed(MODEL, MODEL)


@pytest.mark.parametrize("rule", ["ties", mm.rules.ties, mm.rules.ties()])
def test_a_rule_may_be_a_name_a_function_or_a_rule(rule):
    expected = mm.merge(THETA_0, [MODEL, MODEL], mm.rules.ties())
    np.testing.assert_array_equal(mm.merge(THETA_0, [MODEL, MODEL], rule)["w"], expected["w"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("tyes", "'tyes' is not a merge rule: choose from max_magnitude"),
        ("weighted_average", "weighted_average needs weights"),
        (mm.rules.weighted_average, r"needs weights: call it, weighted_average\(weights=...\)"),
        (0.5, "rule is of type float: give a rule"),
        (lambda: 1, r"is of type int, not a MergeRule"),
        (mm.rules.weighted_average([1, 2, 3]), "has 3 weights for 2 models: give one for each"),
        ("fisher", r"fisher needs every model as rules.Informed"),
    ],
)
def test_invalid_rules(rule, message):
    with pytest.raises(UserError, match=message):
        mm.merge(THETA_0, [MODEL, MODEL], rule)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": MODEL}, r"models is one dict: give a list of models"),
        (MODEL, r"models is one dict, not a list of models: give \[model\]"),
        (INFORMED, "models is one Informed, not a list"),
        (3, "models is one int, not a list"),
        (nnx.Linear(1, 1, rngs=nnx.Rngs(0)), "models is one Linear, not a list"),
        ("a/b", "models is a path, 'a/b': give a list of models"),
        (Path("a"), "models is a path, 'a'"),
        (mm.rules.ties(), r"models is a merge rule or a function: the order is mm.merge"),
        (mm.rules.ties, r"models is a merge rule or a function: the order is mm.merge"),
        (["a/b"], "model 1 is a path, 'a/b': load it first"),
        ([MODEL, INFORMED], "model 2: this rule takes no Fisher"),
        ([], "no models to merge"),
        (iter([]), "no models to merge"),
    ],
)
def test_invalid_models(models, message):
    with pytest.raises(UserError, match=message) as raised:
        mm.merge(THETA_0, models)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("0.5", "scale is of type str: give one number"),
        ([0.5], "scale is of type list: give one number"),
        (1j, "scale is of type complex"),
        (float("nan"), "scale is nan: give a finite number"),
        (jnp.inf, "scale is inf: give a finite number"),
        (np.ones(3), r"scale has shape \(3,\): give one number"),
    ],
)
def test_invalid_scales(scale, message):
    with pytest.raises(UserError, match=message):
        mm.merge(THETA_0, [MODEL], scale=scale)
    assert mm.merge(THETA_0, [MODEL], scale=jnp.float32(1))["w"][1] == -2


@pytest.mark.parametrize(("rule", "count", "message"), [
    ("slerp", 1, "slerp merges 2 models: give that many, not 1"),
    ("slerp", 3, "slerp merges 2 models: give that many, not 3"),
    ("model_stock", 1, "model_stock merges 2 or more models: give that many, not 1"),
])  # fmt: skip
def test_the_number_of_models_is_checked_before_any_work_or_as_they_arrive(rule, count, message):
    for models in ([MODEL] * count, (MODEL for _ in range(count))):
        with pytest.raises(UserError, match=message):
            mm.merge(THETA_0, models, rule)
    endless = iter(lambda: MODEL, None)
    with pytest.raises(UserError, match="slerp merges 2 models: give that many, not 3"):
        mm.merge(THETA_0, endless, "slerp")


def test_a_theta_0_with_nothing_to_merge_is_refused():
    with pytest.raises(UserError, match="theta_0 contains no floating-point arrays"):
        mm.merge({"n": 1, "f": jnp.tanh}, [{"n": 1, "f": jnp.tanh}])
    with pytest.raises(UserError, match="theta_0 contains no floating-point arrays"):
        mm.merge({"w": "a"}, [{"w": "b"}])
    with pytest.raises(UserError, match="theta_0 is a path, 'a/b': load it first"):
        mm.merge("a/b", ["c/d"])
    with pytest.raises(UserError, match="theta_0 is a path, 'a/b': load it first"):
        mm.merge("a/b", [MODEL])
