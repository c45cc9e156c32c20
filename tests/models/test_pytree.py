"""A CLIP as a pytree: two loads are equivalent, copies complete, and each keeps its tokenizer."""

import copy
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.models import CLIP, Companions


@pytest.fixture
def pair(tiny_clip) -> tuple[CLIP, CLIP]:
    return CLIP.from_pretrained(tiny_clip), CLIP.from_pretrained(tiny_clip)


def other_companions() -> Companions:
    return Companions(lambda texts: {"input_ids": [[256, 257]] * len(texts)}, {"image_mean": [0.0]})


def test_two_loads_share_a_compiled_program(pair, tmp_path):
    traced = []

    @jax.jit
    def total(model: CLIP) -> jax.Array:
        traced.append(model)
        return sum(map(jnp.sum, jax.tree.leaves(model)))

    pair[0].save_pretrained(tmp_path / "saved")
    pair[1].tokenizer(["a", "text"], padding=True)  # leaves its settings in the tokenizer
    for model in (*pair, CLIP.from_pretrained(tmp_path / "saved")):
        total(model)
    assert len(traced) == 1


def test_a_function_of_two_models_gives_one_with_the_firsts_tokenizer(pair):
    a, b = pair
    mean = jax.tree.map(lambda x, y: (x + y) / 2, a, b)
    assert isinstance(mean, CLIP) and mean.companions is a.companions
    graphdef, params = nnx.split(b)
    assert graphdef == nnx.graphdef(a)
    assert nnx.merge(graphdef, params).companions is b.companions


@pytest.mark.parametrize("make", [copy.deepcopy, copy.copy, nnx.clone])
def test_copies_keep_companion_files(pair, make):
    copied = make(pair[0])
    assert copied.preprocessor == pair[0].preprocessor
    np.testing.assert_array_equal(copied.tokenize(["a b"]), pair[0].tokenize(["a b"]))
    assert jax.tree.structure(copied) == jax.tree.structure(pair[0])


@pytest.mark.parametrize("jit", [jax.jit, nnx.jit])
def test_no_model_is_returned_with_anothers_tokenizer(pair, jit):
    """Programs are compiled for one model and called with another of the same shape."""
    a, b = pair
    b.companions = other_companions()
    doubled = jit(lambda model: jax.tree.map(lambda x: 2 * x, model))
    for model in (a, b, a):
        companions = model.companions
        assert doubled(model).companions is companions
        assert model.companions is companions


@pytest.mark.parametrize("rule", ["max_magnitude", pytest.param("ties", marks=pytest.mark.slow)])
def test_merged_clips_are_saved_with_the_same_bits_as_merged_files(tiny_clip, tmp_path, rule):
    zero = CLIP.from_pretrained(tiny_clip)
    models, sources = [perturbed(zero, seed) for seed in (1, 2)], []
    for i, model in enumerate(models):
        sources.append(str(tmp_path / f"theta_{i}"))
        model.save_pretrained(sources[-1])
    mm.merge(zero, models, mm.rules.named(rule)).save_pretrained(tmp_path / "memory")

    output = str(tmp_path / "files")
    command = ["merge", "--pretrained", str(tiny_clip), "--rule", rule, "--output", output]
    assert main([*command, "--finetuned", *sources]) == 0
    memory, files = (CLIP.from_pretrained(tmp_path / name) for name in ("memory", "files"))
    jax.tree.map(np.testing.assert_array_equal, memory, files)
    assert memory.companions == zero.companions


def test_every_parameter_of_a_clip_takes_part_in_a_merge(pair):
    zero, _ = pair
    merged = mm.merge(zero, [perturbed(zero, 1)])
    assert all((x != y).any() for x, y in zip(*map(jax.tree.leaves, (zero, merged)), strict=True))
    assert merged.companions == zero.companions


def test_image_towers_can_be_merged_separately(pair):
    zero, model = pair
    models = [perturbed(zero, 1), perturbed(zero, 2)]
    params = [each.image_tower("float32")[1] for each in (zero, *models)]
    model.update_image_tower(mm.merge(params[0], params[1:]))
    whole = mm.merge(zero, models)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model.vision), nnx.state(whole.vision))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model.text), nnx.state(zero.text))


def test_parameters_of_a_tower_do_not_follow_the_model(pair):
    """A theta_0 that did would become theta_t as soon as the model is updated or trained."""
    model, other = pair
    (_, theta_0), (_, text) = model.image_tower("float32"), model.text_tower()
    before = jax.tree.map(np.asarray, (theta_0, text))
    model.update_image_tower(perturbed(other, 1).image_tower("float32")[1])
    model.text.projection.kernel[...] += 1  # in place, as nnx.Optimizer does
    jax.tree.map(np.testing.assert_array_equal, before, (theta_0, text))
    tau = mm.task_vector(model.image_tower("float32")[1], theta_0)
    assert all(x.any() for x in jax.tree.leaves(tau))


def test_clips_of_other_shapes_are_refused_by_leaf(tiny_clip):
    zero, larger = (CLIP.from_pretrained(tiny_clip, image_size=size) for size in (16, 24))
    expected = r"vision.*position_embedding.* \(10, 32\).*\(5, 32\)"
    with pytest.raises(mm.UserError, match=expected) as raised:
        mm.merge(zero, [larger])
    assert len(str(raised.value)) < 300


def test_clips_of_equal_shapes_that_compute_differently_are_refused(tiny_clip, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_clip, other)
    config = json.loads((other / "config.json").read_text())
    activation = config["vision_config"]["hidden_act"]
    config["vision_config"]["hidden_act"] = "gelu" if activation != "gelu" else "quick_gelu"
    (other / "config.json").write_text(json.dumps(config))
    zero, model = CLIP.from_pretrained(tiny_clip), CLIP.from_pretrained(other)
    with pytest.raises(mm.UserError, match="model 1: activation of the vision tower is"):
        mm.merge(zero, [model])


def test_clips_with_other_tokenizers_are_refused(pair):
    zero, model = pair
    model.companions = other_companions()
    with pytest.raises(mm.UserError, match="model 1: its tokenizer differs from theta_0's"):
        mm.merge(zero, [model])


def perturbed(model: CLIP, seed: int) -> CLIP:
    """A model in which every parameter differs from `model`'s."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + random.normal(0, 0.02, x.shape).astype(x.dtype), model)
