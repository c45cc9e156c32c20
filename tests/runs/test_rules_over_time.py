"""A run with the rules over time; it saves their states."""

import jax
import numpy as np
import pytest
from flax import nnx

from magmax_jax.config import (
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.merging import task_vector
from magmax_jax.models import CLIP
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import parse_merges
from magmax_jax.runs.train import run


@pytest.mark.slow
def test_a_run_saves_their_states_and_scales_stacked_blocks_by_depth(tiny_clip, tmp_path):
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3),
        merges=(
            "scaled_last",
            "max_increment",
            "ema_magmax",
            "norm_matched",
            "lines",
            "max_magnitude@1",
        ),
        eval_batch_size=32,
    )
    out = RunDirectory(tmp_path / "run")
    assert {row.label for row in run(config, out)} == {
        "zero_shot", "finetuned", "scaled_last@0.5", "max_increment@1", "ema_magmax@0.5",
        "norm_matched@1", "lines@1", "max_magnitude@1",
    }  # fmt: skip
    theta_0 = nnx.state(CLIP.from_pretrained(tiny_clip).vision)
    merges = {name: merge.rule for name, merge in parse_merges(config).items()}
    states = {name: rule.init(theta_0) for name, rule in merges.items()}
    with Checkpoints(out.checkpoints) as checkpoints:
        *_, kept = checkpoints.restore(lambda note: {"finetuned": theta_0, "merges": states})
    taus = {name: rule.finalize(kept["merges"][name]) for name, rule in merges.items()}
    last = task_vector(kept["finetuned"], theta_0)
    jax.tree.map(np.testing.assert_array_equal, taus["scaled_last"], last)
    blocks, plain = (
        taus[name]["blocks"]["fc1"]["kernel"][...] for name in ("lines", "max_magnitude")
    )
    shares = np.linspace(0.5, 1, len(plain)).reshape(-1, 1, 1)
    np.testing.assert_allclose(blocks, shares * plain, rtol=1e-5)
