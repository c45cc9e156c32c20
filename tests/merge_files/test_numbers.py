"""Numbers in merged files: finite, exact where nothing changed, and losses are reported."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax import registry
from magmax_jax.merging.task_vectors import zeros
from tests.merge_files.conftest import merge, write

BFLOAT16 = ml_dtypes.bfloat16
RULES = ["max_magnitude", "emr", "dare", "undeclared"]
"""One rule fed in chunks, two by tensor, one with a whole tree."""


@pytest.fixture(autouse=True)
def undeclared():
    """A sum that does not declare its scope."""
    rule = mm.MergeRule(zeros, lambda s, tau: jax.tree.map(jnp.add, s, tau), lambda s: s, True, 0.5)
    registry.RULES.register("undeclared", lambda: rule)
    yield
    registry.RULES.unregister("undeclared")


@pytest.fixture
def run(tmp_path, capsys):
    """Merges made-up models; returns the output's tensors or None, and the messages."""

    def call(base, *models, flags=()):
        paths = [write(tmp_path / f"m{i}", content) for i, content in enumerate((base, *models))]
        out, before = tmp_path / "out", sorted(tmp_path.iterdir())
        code = merge(
            "--pretrained", paths[0], "--finetuned", *paths[1:], *flags, "--output", out
        )  # fmt: skip
        of_scope = "note: undeclared does not declare"  # about the rule, not the numbers
        lines = capsys.readouterr().err.splitlines(keepends=True)
        said = "".join(line for line in lines if not line.startswith(of_scope))
        if code == 0:
            return load_file(out / "model.safetensors"), said
        assert code == 2 and sorted(tmp_path.iterdir()) == before
        return None, said

    return call


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32])
def test_values_that_the_output_cannot_hold_are_refused(run, rule, dtype):
    largest = float(ml_dtypes.finfo(dtype).max)
    base = {"ok": np.ones(3, dtype), "w": np.full((4, 5), largest * 0.9, dtype)}
    model = {"ok": np.zeros(3, dtype), "w": np.zeros((4, 5), dtype)}
    flags = ["--rule", rule, "--scale", -1]
    found, said = run(base, model, flags=flags)
    assert found is None and "w: entry" in said and "--scale closer to 0" in said
    assert ("--out-dtype bfloat16 or float32" in said) == (dtype == np.float16)
    assert said.count("\n") == 1


@pytest.mark.parametrize("rule", RULES)
def test_wide_numbers_in_a_narrow_output_are_refused(run, rule):
    base = {"w": np.array([1, 7e4], np.float32)}
    found, said = run(base, base, flags=["--rule", rule, "--out-dtype", "float16"])
    assert found is None and "w: entry 1 of the merge is beyond float16" in said
    found, _ = run(base, base, flags=["--rule", rule, "--out-dtype", "bfloat16"])
    assert found["w"].tobytes() == base["w"].astype(BFLOAT16).tobytes()


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_a_scale_that_is_not_a_number_is_refused(run, scale):
    content = {"w": np.ones(3, np.float32)}
    found, said = run(content, content, flags=["--scale", scale])
    assert found is None and "--scale" in said


@pytest.mark.parametrize("rule", RULES)
def test_masks_of_minus_infinity_are_preserved(run, rule):
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    base, model = ({"mask": mask, "w": np.full(3, x, np.float32)} for x in (1, 2))
    found, _ = run(base, model, flags=["--rule", rule])
    assert found["mask"].tobytes() == mask.tobytes() and np.isfinite(found["w"]).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("before", "after"), [(np.inf, np.inf), (-np.inf, 1), (1, -np.inf), (np.nan, np.nan)]
)
def test_other_infinities_are_refused(run, rule, before, after):
    base, model = ({"w": np.array([1, x], np.float32)} for x in (before, after))
    found, said = run(base, model, flags=["--rule", rule])
    assert found is None and " w " in said


@pytest.mark.parametrize("rule", ["ties", "magnitude_prune"])
def test_whole_model_thresholds_ignore_masks(run, rule):
    random = np.random.default_rng(0)
    tensors = [{"w": random.normal(size=500).astype(np.float32)} for _ in range(2)]
    mask = {"mask": np.full(300, -np.inf, np.float32)}
    # A tenth of 800 entries, 300 of them unchanged, is 80 of the other 500.
    flags = ["--rule", rule, "--options", "density=0.1", "threshold=global", "--scale", 1]
    found, _ = run(*(content | mask for content in tensors), flags=flags)
    tau = np.abs(tensors[1]["w"] - tensors[0]["w"])
    changed = found["w"] != tensors[0]["w"]
    least = np.sort(tau)[-changed.sum()]
    assert (changed == (tau >= least)).all() and 0 < changed.sum() <= 81
    assert found["mask"].tobytes() == mask["mask"].tobytes()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, BFLOAT16, np.float16])
def test_unchanged_entries_keep_their_bits(run, rule, dtype):
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    kept = np.array([-0.0, 0.0, tiny, -3 * tiny, 1 / 3], dtype)
    base, model = (
        {"w": np.concatenate([kept, np.full(3, x, dtype)]), "kept": kept} for x in (1, 2)
    )
    found, _ = run(base, model, flags=["--rule", rule, "--scale", 0.5])
    assert found["kept"].tobytes() == kept.tobytes()
    assert found["w"][:5].tobytes() == kept.tobytes()
    if rule != "dare":
        np.testing.assert_array_equal(found["w"][5:].astype(float), 1.5)


@pytest.mark.parametrize("rule", ["average", "emr", "ties", "undeclared"])
def test_float64_is_subtracted_and_added_in_float64(run, rule):
    random = np.random.default_rng(0)
    base = {"w": 1 + random.random(2000), "v": random.random((3, 4, 5))}
    model = {name: value + 1e-9 * random.random(value.shape) for name, value in base.items()}
    options = ["--options", "density=1"] if rule == "ties" else []
    found, said = run(base, model, flags=["--rule", rule, "--scale", 0.5, *options])
    for name, value in found.items():
        assert value.dtype == np.float64
        change = model[name] - base[name]
        np.testing.assert_allclose(value - base[name], 0.5 * change, rtol=1e-6, atol=3e-16)
    assert "note" not in said


@pytest.mark.parametrize("rule", ["task_arithmetic", "emr", "undeclared"])
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_variances_stay_positive_and_a_note_says_so(run, rule, dtype):
    base = {
        "bn.running_var": np.array([1, 2, 3, 4], dtype),
        "bn.running_mean": np.ones(4, dtype),
    }
    model = {
        "bn.running_var": np.array([0.1, 2, 3.5, 0.1], dtype),
        "bn.running_mean": np.array([-3, 1, 1, 1], dtype),
    }
    found, said = run(base, model, flags=["--rule", rule, "--scale", 2])
    variance = found["bn.running_var"].astype(float)
    np.testing.assert_allclose(variance, [1, 2, 4, 4])
    assert found["bn.running_mean"][0] == -7
    assert "note: 2 variances would be negative" in said and "bn.running_var" in said


@pytest.mark.parametrize("rule", ["average", "emr", "undeclared"])
@pytest.mark.parametrize("flags", [[], ["--out-dtype", "bfloat16"]])
def test_updates_lost_to_rounding_are_counted(run, rule, flags):
    random = np.random.default_rng(0)
    base = {"w": random.normal(size=(40, 50), scale=0.05).astype(BFLOAT16)}
    model = {"w": base["w"].astype(np.float32) + 5e-5 * random.random((40, 50), np.float32)}
    if flags:
        base["w"] = base["w"].astype(np.float32)
    found, said = run(base, model, flags=["--rule", rule, "--scale", 1, *flags])
    lost = np.mean(found["w"] == base["w"].astype(BFLOAT16))
    assert f"note: {lost:.0%} of the changes are rounded away in bfloat16" in said
    assert "--out-dtype float32" in said


def test_small_losses_are_not_noted(run):
    base, model = ({"w": np.full(64, x, BFLOAT16)} for x in (1, 2))
    assert "rounded" not in run(base, model)[1]


def test_opcm_accepts_empty_tensors(run):
    base = {"empty": np.zeros((0, 4), np.float32), "w": np.eye(3, dtype=np.float32)}
    model = base | {"w": 2 * base["w"]}
    found, _ = run(base, model, flags=["--rule", "opcm"])
    assert found["empty"].shape == (0, 4)


@pytest.mark.parametrize("rule", ["max_magnitude", "emr"])
def test_the_error_for_a_non_finite_tensor_has_a_remedy(tmp_path, capsys, rule):
    base = {"w": np.ones(4, np.float32), "table": np.array([np.nan, 1], np.float32)}
    model = {**base, "w": np.full(4, 3, np.float32)}
    sources = ["--pretrained", write(tmp_path / "0", base)]
    sources += ["--finetuned", write(tmp_path / "1", model), "--rule", rule, "--scale", 1]
    assert merge(*sources, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "table" in said and "keep theta_0's with --exclude table" in said
    assert merge(*sources, "--exclude", "table", "--output", tmp_path / "out") == 0


def test_a_scale_beyond_float32_is_a_problem(tmp_path, capsys):
    content = {"w": np.ones(4, np.float64)}
    source = write(tmp_path / "0", content)
    flags = ["--pretrained", source, "--finetuned", source, "--scale", "1e39"]
    assert merge(*flags, "--output", tmp_path / "out") == 2
    assert "--scale is 1e+39, which exceeds float32" in capsys.readouterr().err
