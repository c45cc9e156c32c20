"""A SigLIP in a run, its plan, studies, merges and export, on one device and on several."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import magmax_jax as mm
from benchmarks.virtual_devices import virtual_devices
from magmax_jax import models
from magmax_jax.cli.main import main
from magmax_jax.config import ExperimentConfig, ModelConfig
from magmax_jax.runs import state
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.export import export
from magmax_jax.runs.studies import study
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from tests.models.siglip_weights import TOKENIZERS
from tests.models.small_runs import aware_accuracies, small_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A random SigLIP of 16 pixels in patches of 8, one layer of width 32."""
    from flax import nnx

    tower = {"layers": 1, "heads": 4, "mlp": 64, "activation": "gelu_pytorch_tanh", "epsilon": 1e-6}
    config = models.SigLIPConfig(
        models.VisionConfig(width=32, **tower, image_size=16, patch_size=8),
        models.SigLIPTextConfig(width=32, **tower, vocabulary=60, context=48),
    )
    model = models.SigLIP(config, rngs=nnx.Rngs(0))
    model.companions = models.Companions(TOKENIZERS["siglip"]())
    directory = tmp_path_factory.mktemp("models") / "siglip"
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def config(source) -> ExperimentConfig:
    return small_run(source, 2e-3, freeze=("vision_model.embeddings.*",))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> RunDirectory:
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "siglip")
    run(config, out)
    return out


def test_a_run_learns(finished):
    accuracy = aware_accuracies(finished)
    assert accuracy[2, "max_magnitude"] > accuracy[0, "zero_shot"] + 0.2


def test_its_plan_is_exact(config, source):
    planned = estimate(config, data_size(config.scenario, config.seed))
    parts = build_run(config, build_scenario(config.scenario, config.seed), one_device())
    assert planned.nbytes == state.bytes_needed(parts)
    published = replace(config, model=ModelConfig("google/siglip2-base-patch16-224"))
    assert estimate(published, data_size(config.scenario, config.seed)).nbytes > planned.nbytes


def test_studies_name_the_pooling_head(finished):
    study(finished, ["provenance"])
    lines = (finished.path / "analysis" / "provenance.jsonl").read_text().splitlines()
    found = {(r["layer"], r["kind"]) for r in map(json.loads, lines)}
    assert {
        ("head", "head.probe"),
        ("head", "head.qkv.kernel"),
        ("head", "post_norm.scale"),
    } < found


def test_exported_models_equal_merges_in_memory_and_of_files(finished, source, tmp_path):
    for name in ("task:1", "task:2", "max_magnitude@0.5"):
        export(finished.path, name, tmp_path / name.replace(":", ""))
    zero, first, second, merged = (
        models.from_pretrained(path)
        for path in (source, *(tmp_path / n for n in ("task1", "task2", "max_magnitude@0.5")))
    )
    assert isinstance(merged, models.SigLIP)
    for kept in ("logit_scale", "logit_bias", "text"):
        jax.tree.map(np.testing.assert_array_equal, getattr(merged, kept), getattr(zero, kept))
    frozen, probe = (
        [np.asarray(part(m)) for m in (zero, second)]
        for part in (
            lambda m: m.vision.patch_embedding.kernel[...],
            lambda m: m.vision.head.probe[...],
        )
    )
    assert (frozen[0] == frozen[1]).all() and (probe[0] != probe[1]).any()
    in_memory = mm.merge(zero, [first, second], scale=0.5)
    jax.tree.map(np.testing.assert_array_equal, in_memory, merged)
    command = ["merge", "--pretrained", str(source), "--finetuned", str(tmp_path / "task1")]
    command += [str(tmp_path / "task2"), "--scale", "0.5", "--output", str(tmp_path / "files")]
    assert main(command) in (0, None)
    jax.tree.map(np.testing.assert_array_equal, models.from_pretrained(tmp_path / "files"), merged)


def test_losses_with_sharded_matrices_match_one_device(source, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "tests.helpers.layouts", source, tmp_path, "1x1x1", "2x4x2"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | virtual_devices(8),
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    expected = found["1x1x1"]["losses"]
    assert len(set(expected)) == 20
    np.testing.assert_allclose(found["2x4x2"]["losses"], expected, rtol=1e-5)
