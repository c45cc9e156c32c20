"""A run's matrix rules know its model: they give the same as merging the exported files."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
    TrainConfig,
)
from magmax_jax.merging import rules
from magmax_jax.models.conversion import to_hf
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.export import export
from magmax_jax.runs.merge_specs import parse_merges
from magmax_jax.runs.sweep import check
from magmax_jax.runs.train import run

RULES = ("iso_c", "tsv_m", "opcm", "tsv_stream")


@pytest.fixture(scope="module")
def config(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=RULES,
        evaluate="last",
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run(config, RunDirectory(directory))
    return directory


def tower(directory) -> nnx.State:
    return nnx.state(mm.CLIP.from_pretrained(directory).vision)


def assert_alike(found: nnx.State, expected: nnx.State, theta_0: nnx.State) -> None:
    def compare(path, one, other, base):
        size = np.abs(np.asarray(other) - np.asarray(base)).max()
        message = jax.tree_util.keystr(path)
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-3 * size + 1e-7, err_msg=message)

    jax.tree_util.tree_map_with_path(compare, found, expected, theta_0)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_runs_merge_equals_that_of_its_exported_tasks(trained, tiny_clip, tmp_path, rule):
    export(trained, rule, tmp_path / "run")
    models = [f"{trained}:task:1", f"{trained}:task:2"]
    flags = ["--pretrained", f"{trained}:zero_shot", "--finetuned", *models, "--rule", rule]
    assert main(["merge", *flags, "--output", str(tmp_path / "files")]) == 0
    found, expected, theta_0 = map(tower, (tmp_path / "run", tmp_path / "files", tiny_clip))
    assert_alike(found, expected, theta_0)


@pytest.mark.parametrize(
    "rule", ["iso_c", "opcm", *(pytest.param(r, marks=pytest.mark.slow) for r in RULES[1::2])]
)
def test_towers_and_their_files_tensors_are_merged_alike(config, tiny_clip, rule):
    """Stacked query, key and value kernels are merged like Hugging Face's per-layer tensors."""
    model = mm.CLIP.from_pretrained(tiny_clip)
    theta_0, entries = nnx.state(model.vision), model.config.image_entries
    random = np.random.default_rng(0)
    tasks = [
        jax.tree.map(lambda x: x + np.float32(0.1 * random.normal(size=x.shape)), theta_0)
        for _ in range(2)
    ]
    merged = mm.merge(theta_0, tasks, parse_merges(config, shape=model.config)[rule].rule)
    files, *others = (dict(to_hf(entries, each)) for each in (theta_0, *tasks))
    expected = mm.merge(files, others, rule)
    for name, tensor in to_hf(entries, merged):
        size = np.abs(expected[name] - files[name]).max()
        np.testing.assert_allclose(tensor, expected[name], rtol=0, atol=2e-3 * size, err_msg=name)


def test_a_model_says_where_its_linear_maps_are(tiny_clip):
    model = mm.CLIP.from_pretrained(tiny_clip)
    maps = model.linear_maps()
    assert ("vision.blocks.attention.qkv.kernel", True, 3, 1) in maps
    assert ("vision.projection.kernel", False, 1, 1) in maps
    assert not any("embedding" in name for name, *_ in maps)
    names = {rules.leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(model)}
    assert {f"{name}.value" for name, *_ in maps} <= names


def test_tables_are_matrices_if_the_configuration_decides_by_shape(config, tiny_clip):
    shape = mm.CLIP.from_pretrained(tiny_clip).config
    published = dataclasses.replace(config, merging=MergingConfig(matrices="shape"))

    def taken(config, name, size):
        return parse_merges(config, shape=shape)["tsv_m"].rule.of_leaf(name, size).taken_as

    table = "position_embedding.value", (5, 16)
    assert taken(config, *table).startswith("as tables")
    assert taken(published, *table) == "as matrices"
    for each in (config, published):
        assert taken(each, "blocks.norm1.scale.value", (2, 16)).startswith("as tables")
        assert "3 matrices" in taken(each, "blocks.attention.qkv.kernel.value", (2, 16, 48))
        assert taken(each, "patch_embedding.kernel.value", (48, 16)).startswith("as tables")
    assert "matrices" not in config.to_json()
    assert '"matrices": "shape"' in published.to_json()
    swept = check(SweepConfig(rules=("tsv_m",)), published, shape=shape)
    assert swept["tsv_m"].rule == parse_merges(published, shape=shape)["tsv_m"].rule
