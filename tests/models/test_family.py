"""A registered model family works in a whole run, its plan, studies and export."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from magmax_jax import models
from magmax_jax.config import (
    ModelConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.registry import MODEL_FAMILIES
from magmax_jax.runs import state
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.export import export
from magmax_jax.runs.studies import study
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from tests.models.linear_family import FAMILY, WIDTH, LinearConfig, LinearModel
from tests.models.small_runs import aware_accuracies, small_run
from tests.models.towers import write_tower


@pytest.fixture(scope="module", autouse=True)
def family():
    MODEL_FAMILIES.register("linear", FAMILY)
    yield
    MODEL_FAMILIES.unregister("linear")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "linear"
    LinearModel(LinearConfig(image_size=8), nnx.Rngs(0)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def config(source):
    return small_run(source, 1e-2, freeze=("*.bias",))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "linear")
    run(config, out)
    return out


def test_a_run_learns(finished):
    accuracy = aware_accuracies(finished)
    assert set(accuracy) == {(0, "zero_shot")} | {
        (t, m) for t in (1, 2) for m in ("finetuned", "max_magnitude")
    }
    assert accuracy[2, "max_magnitude"] > accuracy[0, "zero_shot"] + 0.2


def test_its_plan_is_exact(config, source):
    planned = estimate(config, data_size(config.scenario, config.seed))
    parts = build_run(config, build_scenario(config.scenario, config.seed), one_device())
    assert planned.nbytes == state.bytes_needed(parts)
    assert planned.flops == 2.0 * 3 * 64 * WIDTH * (3 * planned.images + planned.evaluated)
    published = replace(config, model=ModelConfig("someone/linear-8"))
    assert estimate(published, data_size(config.scenario, config.seed)) == planned
    with pytest.raises(UserError, match="image_size 9 is not this model's"):
        models.known_shape(str(source), image_size=9)


def test_studies_name_its_parameters(finished):
    study(finished, ["provenance"], exclude=("image.bias",))
    lines = (finished.path / "analysis" / "provenance.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert {(r["layer"], r["kind"]) for r in found} == {("head", "kernel"), ("head", "bias")}
    supplied = {kind: sum(r["supplied"] for r in found if r["kind"] == kind) for kind in ("bias",)}
    assert supplied == {"bias": 0}  # it was frozen


def test_its_models_are_exported_by_its_own_method(finished, source, tmp_path):
    export(finished.path, "finetuned", tmp_path / "out")
    before, after = (models.from_pretrained(directory) for directory in (source, tmp_path / "out"))
    assert isinstance(after, LinearModel)
    assert (after.image.kernel[...] != before.image.kernel[...]).any()
    for kept in ("text", "logit_scale"):
        pairs = zip(*(jax.tree.leaves(getattr(m, kept)) for m in (before, after)), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="float32 alone"):
        export(finished.path, "finetuned", tmp_path / "half", "float16")


@pytest.mark.parametrize("name", ["bert", None, ["clip"]], ids=repr)
def test_an_unknown_type_is_refused_with_the_known_ones(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    for ask in (models.from_pretrained, models.known_shape):
        with pytest.raises(UserError) as raised:
            ask(str(tmp_path))
        expected = f"{tmp_path / 'config.json'}: model_type is {name!r}, not 'clip' or 'siglip' "
        expected += "or 'linear': choose such a model with both towers"
        assert str(raised.value) == expected


def test_a_family_without_standalone_towers_completes_none(source, tiny_clip, tmp_path):
    tower = write_tower(tmp_path / "tower", tiny_clip)
    for ask in (models.from_pretrained, models.known_shape):
        with pytest.raises(UserError, match="is not only an image tower: leave it out"):
            ask(str(source), text_source=str(tiny_clip))
        with pytest.raises(UserError, match=f"a different kind of model from {tower}: name the"):
            ask(str(tower), text_source=str(source))


def test_clip_is_found_by_its_type_and_by_openclips_file(tiny_clip, tmp_path):
    model = models.from_pretrained(tiny_clip, dtype="bfloat16")
    assert isinstance(model, models.CLIP)
    assert models.abstract_model(model.config).config == model.config
    tower = {"layers": 2, "width": 64}
    image, text = tower | {"image_size": 16, "patch_size": 8}, tower | {"heads": 1}
    described = {"model_cfg": {"embed_dim": 16, "vision_cfg": image, "text_cfg": text}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    shape, unknown = models.known_shape(str(tmp_path), image_size=32)
    assert isinstance(shape, models.CLIPConfig)
    assert (shape.image_size, unknown) == (32, "")
