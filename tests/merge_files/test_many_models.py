"""Merging many models compiles one step, not one for each model."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.merging import MergeRule
from magmax_jax.merging.numerics import over_tasks
from magmax_jax.registry import RULES
from tests.merge_files.conftest import merge, sources, write

MODELS = over_tasks.UNROLLED + 8


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("many"), np.random.default_rng(0)

    def theta(t: int) -> dict[str, np.ndarray]:
        found = {f"{k}.w": random.standard_normal((5, 7), np.float32) for k in range(3)}
        # The models' dtypes may differ from each other.
        return found | {"0.w": found["0.w"].astype(ml_dtypes.bfloat16 if t % 2 else np.float32)}

    return [write(folder / str(t), theta(t)) for t in range(MODELS + 1)]


@pytest.fixture
def traced(monkeypatch):
    """A rule whose `update` notes its calls, all of which are traces."""
    calls = []

    def rule() -> MergeRule:
        def update(total, tau):
            calls.append(tau.shape)
            return jax.tree.map(jnp.add, total, tau)

        def zeros(theta_0):
            return jax.tree.map(jnp.zeros_like, theta_0)

        return MergeRule(zeros, update, lambda total: total, True, 1.0, scope="entry")

    RULES.register("traced", rule)
    yield calls
    RULES.unregister("traced")


def merged_files(places, out, rule, *flags) -> dict[str, np.ndarray]:
    assert merge(*sources(places), "--rule", rule, *flags, "--output", out) == 0
    return load_file(out / "model.safetensors")


def test_one_step_is_compiled(places, tmp_path, traced):
    merged_files(places, tmp_path / "out", "traced")
    assert 0 < len(traced) < 10  # per dtype, and to see whether the state is steady


@pytest.mark.parametrize("rule", ["max_magnitude", "average"])
def test_steps_give_what_the_unrolled_program_gives(places, tmp_path, monkeypatch, rule):
    steps = merged_files(places, tmp_path / "steps", rule)
    monkeypatch.setattr(over_tasks, "UNROLLED", MODELS)
    unrolled = merged_files(places, tmp_path / "unrolled", rule)
    for name, leaf in unrolled.items():
        np.testing.assert_allclose(steps[name], leaf, rtol=1e-6, atol=1e-7)


def test_a_rule_whose_state_grows_is_unrolled(places, tmp_path):
    def rule() -> MergeRule:
        return MergeRule(
            lambda theta_0: (), lambda taus, tau: (*taus, tau), sum, True, 1.0, scope="entry"
        )

    RULES.register("growing", rule)
    try:
        found = merged_files(places, tmp_path / "out", "growing")
    finally:
        RULES.unregister("growing")
    theta_0, *thetas = (load_file(place / "model.safetensors")["1.w"] for place in places)
    np.testing.assert_allclose(found["1.w"], theta_0 + sum(t - theta_0 for t in thetas), rtol=1e-4)


OF_ALL = {
    "in chunks": ["consensus"],
    "after a survey": ["ties"],
    "trimmed": ["ties", "--options", "threshold=per_tensor"],
    "thinned": ["sparse_task_arithmetic", "--options", "thin=random", "densities=0.5"],
    "thinned, rescaled": [
        "sparse_task_arithmetic", "--options", "thin=random", "densities=0.5", "rescale=True",
    ],
    "streaming, thinned": ["dare"],
    "tensor by tensor": ["sce"],
    "matrices": ["tsv_m"],
    "small tensors together": ["della"],
}  # fmt: skip
"""Flags, by how files are merged."""
SELDOM = ("thinned, rescaled", "streaming, thinned", "matrices", "small tensors together")


@pytest.mark.parametrize(
    "how", [pytest.param(h, marks=[pytest.mark.slow] if h in SELDOM else []) for h in OF_ALL]
)
def test_programs_do_not_grow_with_the_number_of_models(places, tmp_path, how):
    def size(models: int) -> int:
        """The size of all distinct programs that JAX compiles, in bytes of text: two threads that
        need one at the same moment may both compile it."""
        programs = tmp_path / f"programs-{models}"
        jax.clear_caches()
        jax.config.update("jax_dump_ir_to", str(programs))
        try:
            merged_files(places[: models + 1], tmp_path / f"{models}", *OF_ALL[how])
        finally:
            jax.config.update("jax_dump_ir_to", "")
        return sum(map(len, {file.read_bytes() for file in programs.iterdir()}))

    # As many digits, so that shapes are as long.
    assert size(MODELS) == pytest.approx(size(over_tasks.UNROLLED + 2), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", OF_ALL)
def test_a_loop_gives_what_the_unrolled_program_gives(places, tmp_path, monkeypatch, how):
    few = places[:6]
    unrolled = merged_files(few, tmp_path / "unrolled", *OF_ALL[how])
    monkeypatch.setattr(over_tasks, "UNROLLED", 4)
    looped = merged_files(few, tmp_path / "looped", *OF_ALL[how])
    for name, leaf in unrolled.items():
        np.testing.assert_allclose(looped[name], leaf, rtol=2e-5, atol=2e-5)
