"""Any arguments from Python: a right result or a UserError, never another exception."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import magmax_jax as mm
from magmax_jax.api.presets import PRESETS
from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.config.changes import field_names
from magmax_jax.errors import UserError
from magmax_jax.registry import RULES
from magmax_jax.runs.model_ref import ModelRef
from tests.mutants.pytrees import ODD, Given, models, trees

FEW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=300)
SCALES = st.sampled_from((0.5, 1, -1.0, 0, np.float32(0.25), 1e30, 1e-45))


@pytest.fixture(autouse=True, scope="module")
def operation_by_operation():
    """Every example has another structure: compiling each would take most of the time."""
    with jax.disable_jit():
        yield


def merged_by_numpy(pretrained: Any, tuned: list[Any], rule: str, scale: Any) -> Any:
    """theta_0 + scale tau by leaf, in float32."""

    def leaf(theta_0: Any, *theta: Any) -> Any:
        base = np.asarray(theta_0)
        if not jnp.issubdtype(base.dtype, jnp.floating):
            return theta_0
        taus = [(np.asarray(x, np.float64) - base.astype(np.float64)) for x in theta]
        tau = taus[0]
        for other in taus[1:]:
            tau = np.where(np.abs(other) >= np.abs(tau), other, tau)
        if rule == "average":
            tau = sum(taus) / len(taus)
        elif rule == "task_arithmetic":
            tau = sum(taus)
        with np.errstate(all="ignore"):
            return (base.astype(np.float64) + float(scale) * tau).astype(base.dtype)

    return jax.tree.map(leaf, pretrained, *tuned)


def is_finite(tree: Any) -> bool:
    floats = [x for x in map(np.asarray, jax.tree.leaves(tree)) if x.dtype.kind in "fV"]
    return all(np.isfinite(x.astype(np.float64)).all() for x in floats)


def check_merge(arguments, rule, scale) -> None:
    theta_0, tuned, alike = arguments
    has_floats = any(
        jnp.issubdtype(np.asarray(x).dtype, jnp.floating) for x in jax.tree.leaves(theta_0)
    )
    try:
        theta = mm.merge(theta_0, tuned, rule, scale)
    except UserError:
        if alike and has_floats:  # then only an overflow is an error
            assert not is_finite(merged_by_numpy(theta_0, tuned, rule, scale)) or scale == 1e30
        return
    assert has_floats
    assert jax.tree.structure(theta) == jax.tree.structure(theta_0)
    if not alike:
        # What was changed is not merged: non-arrays, integers, or the same value in another type.
        assert is_finite(theta)
        return
    expected = merged_by_numpy(theta_0, tuned, rule, scale)
    for ours, theirs, base in zip(*map(jax.tree.leaves, (theta, expected, theta_0)), strict=True):
        assert type(ours) is type(base) or isinstance(ours, jax.Array) == isinstance(
            base, jax.Array
        )
        one, other = np.asarray(ours), np.asarray(theirs)
        assert one.dtype == np.asarray(base).dtype and one.shape == np.shape(base)
        error = 1e-6 if one.dtype.kind == "f" and one.dtype.itemsize > 2 else 1e-2
        np.testing.assert_allclose(
            one.astype(np.float64), other.astype(np.float64), rtol=error, atol=error
        )


RULES_IN_NUMPY = st.sampled_from(("max_magnitude", "average", "task_arithmetic"))


def test_a_wrong_merge_is_noticed(monkeypatch):
    arguments = Given({"a": np.ones(2, np.float32)}, [{"a": np.zeros(2, np.float32)}], alike=True)
    check_merge(arguments, "average", 0.5)
    monkeypatch.setattr(mm, "merge", lambda theta_0, *rest: theta_0)
    with pytest.raises(AssertionError):
        check_merge(arguments, "average", 0.5)


@FEW
@given(models(), RULES_IN_NUMPY, SCALES)
def test_merges_of_any_pytrees_are_right_or_refused(arguments, rule, scale):
    check_merge(arguments, rule, scale)


@pytest.mark.slow
@MANY
@given(models(), RULES_IN_NUMPY, SCALES)
def test_hundreds_of_merges_of_any_pytrees_are_right_or_refused(arguments, rule, scale):
    check_merge(arguments, rule, scale)


@pytest.mark.slow
@MANY
@given(models(), st.sampled_from([name for name in RULES if name != "fisher"]))
def test_every_rule_merges_any_pytrees_or_refuses(arguments, rule):
    try:
        theta = mm.merge(arguments.pretrained, arguments.models, rule)
    except UserError:
        return
    assert is_finite(theta)
    for ours, base in zip(*map(jax.tree.leaves, (theta, arguments.pretrained)), strict=True):
        assert np.asarray(ours).dtype == np.asarray(base).dtype
        assert np.shape(ours) == np.shape(base)


@FEW
@given(ODD | trees(), ODD | st.lists(ODD, max_size=2), ODD, ODD)
def test_any_arguments_of_merge_are_refused_or_merged(pretrained, tuned, rule, scale):
    for arguments in ((tuned, rule, scale), (tuned, None, None), ([pretrained], None, scale)):
        try:
            theta = mm.merge(pretrained, *arguments)
        except UserError:
            continue
        assert jax.tree.structure(theta) == jax.tree.structure(pretrained)


@FEW
@given(models(), SCALES)
def test_task_vectors_of_any_pytrees(arguments, scale):
    theta_0, (theta, *_), alike = arguments
    try:
        tau = mm.task_vector(theta, theta_0)
        back = mm.apply_task_vector(theta_0, tau, 1.0)
    except UserError:
        assert not alike
        return
    if alike:
        for ours, tuned in zip(*map(jax.tree.leaves, (back, theta)), strict=True):
            np.testing.assert_array_equal(
                np.asarray(ours).astype(np.float64), np.asarray(tuned).astype(np.float64)
            )


FIELDS = st.sampled_from((*field_names(ExperimentConfig), "train", "no_such", "train.no_such"))


@FEW
@given(st.sampled_from(list(PRESETS)), st.dictionaries(FIELDS, ODD, min_size=1, max_size=3))
def test_any_changes_of_a_preset_are_refused_or_read_back(name, changes):
    try:
        config = mm.preset(name, **changes)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert ExperimentConfig().replace(**_as_read(config)) == config


def _as_read(config: ExperimentConfig) -> dict[str, Any]:
    return json.loads(config.to_json())


@FEW
@given(
    st.text(max_size=12) | st.from_regex(r"(task:|ties@|ema\+lda@)?[-0-9.e_]{1,6}", fullmatch=True)
)
def test_any_name_of_a_model_is_refused_or_means_itself(text):
    try:
        found = ModelRef.parse(text)
    except UserError:
        return
    assert ModelRef.parse(str(found)) == found


@FEW
@given(st.text("0123456789.,:-e ", max_size=12))
def test_any_scales_of_a_sweep_are_refused_or_finite(text):
    try:
        values = SweepConfig(rules=("ties",), scales=text).values
    except UserError:
        return
    assert values and np.isfinite(values).all()
