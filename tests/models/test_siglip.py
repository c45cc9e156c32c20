"""SigLIP: against its definition in NumPy; files, texts and classification."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import magmax_jax as mm
from magmax_jax import models
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.inputs.geometry import Exact, Geometry
from magmax_jax.models import SigLIP, SigLIPConfig, normalise, preprocessing_of, trainable
from magmax_jax.models.conversion import flat
from tests.models import siglip_reference as reference
from tests.models.siglip_weights import CONFIGS, SIZES, TOKENIZERS, ids, shapes, weights, write
from tests.models.weights import pixels

NAMES = ["cat", "dog", "oak tree"]
PICTURES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    out = tmp_path_factory.mktemp("siglip")
    return {name: write(out / name, name) for name in CONFIGS}


@pytest.fixture
def model(directories) -> SigLIP:
    return models.from_pretrained(directories["siglip"])


@jax.jit
def _all(model: SigLIP, images, ids):
    return (
        model(images, ids),
        normalise(model.encode_image(images)),
        normalise(model.encode_text(ids)),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_features_and_logits_match_the_definition(name, directories):
    model = models.from_pretrained(directories[name])
    tensors, images = weights(CONFIGS[name]), pixels(SIZES[name][0])
    image = reference.image_features(tensors, CONFIGS[name], images)
    text = reference.text_features(tensors, CONFIGS[name], ids(name))
    with jax.default_matmul_precision("highest"):
        logits, *found = _all(model, images, ids(name))
    for features, expected in zip(found, (image, text), strict=True):
        np.testing.assert_allclose(features, expected, rtol=0, atol=2e-6)
    scale, bias = (float(tensors[f"logit_{part}"][0]) for part in ("scale", "bias"))
    np.testing.assert_allclose(logits, np.exp(scale) * image @ text.T + bias, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_models_have_transformers_tensors_and_load_the_same(name, directories, tmp_path):
    model = models.from_pretrained(directories[name])
    assert isinstance(model, SigLIP) and model.logit_scale[...].shape == ()
    model.save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert {n: t.shape for n, t in saved.items()} == shapes(CONFIGS[name])
    for key, tensor in weights(CONFIGS[name]).items():
        np.testing.assert_array_equal(saved[key], tensor)
    again = models.from_pretrained(tmp_path / "saved")
    assert again.config == model.config and jax.tree.structure(again) == jax.tree.structure(model)
    np.testing.assert_array_equal(again.tokenize(NAMES), model.tokenize(NAMES))
    processor = json.loads((tmp_path / "saved" / "preprocessor_config.json").read_text())
    side = SIZES[name][0]
    assert processor["image_processor_type"] == "SiglipImageProcessor"
    assert processor["size"] == {"height": side, "width": side}
    assert (processor["image_mean"], processor["do_center_crop"]) == ([0.5] * 3, False)
    assert again.preprocessor == processor and again.companions == model.companions
    in_memory = SigLIP(model.config, rngs=nnx.Rngs(0))  # has SigLIP's processor, not CLIP's
    wide = np.repeat(PICTURES, 2, axis=2)
    np.testing.assert_array_equal(models.preprocess(in_memory, wide), model.preprocess(wide))


def test_16_bit_weights_are_read_as_float32(tmp_path):
    half = weights(CONFIGS["siglip"], np.float16)
    model = models.from_pretrained(write(tmp_path / "half", "siglip", np.float16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    expected = half["vision_model.head.probe"].astype(np.float32).ravel()
    np.testing.assert_array_equal(model.vision.head.probe[...], expected)


def test_every_tensor_is_accounted_for(tmp_path):
    directory = write(tmp_path / "odd", "siglip")
    tensors = weights(CONFIGS["siglip"]) | {"vision_model.embeddings.position_ids": np.arange(16)}
    del tensors["vision_model.head.attention.in_proj_bias"]
    tensors["vision_model.embeddings.class_embedding"] = np.zeros(24, np.float32)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(UserError) as raised:
        models.from_pretrained(directory)
    assert str(raised.value).splitlines()[1:] == [
        "  missing vision_model.head.attention.in_proj_bias (72,)",
        "  unexpected vision_model.embeddings.class_embedding",
    ]


def test_image_entries_match_the_image_towers_parameters(model):
    params = dict(flat(model.image_tower("float32")[1]))
    entries = model.config.image_entries
    assert {entry.path for entry in entries} == set(params)
    names = [name for entry in entries for layer in entry.names for name in layer]
    assert sorted(names) == sorted(n for n in shapes(CONFIGS["siglip"]) if n.startswith("vision"))
    sections = {path.split(".")[0]: model.config.place_of(path).section for path in params}
    assert sections == {
        "patch_embedding": "embedding",
        "position_embedding": "embedding",
        "blocks": "block",
        "post_norm": "head",
        "head": "head",
    }


def test_flops_follow_from_the_kernels(model):
    n, d = 16, 24
    expected = 2 * 2 * n * n * d + 2 * n * d  # attention products: 2 blocks, one query
    for path, leaf in flat(model.image_tower("float32")[1]):
        if path == "head.qkv.kernel":
            expected += leaf.size // 3 * 2 * n  # keys and values; the query is fixed
        elif path.endswith("kernel"):
            expected += leaf.size * (1 if path.startswith("head.") else n)
    assert model.config.forward_flops() == 2 * expected


def test_the_head_is_frozen_by_its_names(model):
    params = model.image_tower("float32")[1]
    mask = dict(flat(trainable(model.config, params, ["vision_model.head.*"])))
    assert {path for path, leaf in mask.items() if not leaf.any()} == {
        path for path in mask if path.startswith("head.")
    }
    with pytest.raises(ConfigError, match=r"visual_projection.*vision_model\.head\.probe"):
        trainable(model.config, params, ["visual_projection.weight"])


def test_every_parameter_of_the_image_tower_has_a_gradient(model):
    dtype = "bfloat16"
    tower, params = model.image_tower(dtype)
    images, wanted = pixels(32), np.random.RandomState(0).normal(size=(3, 24))

    def loss(params):
        features = nnx.merge(tower, params)(images)
        assert features.dtype == dtype
        return (normalise(features) * wanted).sum()

    for path, gradient in flat(jax.jit(jax.grad(loss))(params)):
        # A constant added to all keys changes no softmax, so only part of the bias moves.
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path


def test_texts_are_lower_cased_and_padded_to_the_context(directories):
    first, second = (models.from_pretrained(directories[name]) for name in CONFIGS)
    found = first.tokenize(["A Cat!", "a  cat", "'a-cat'"])
    assert found.dtype == np.int32 and found.shape == (3, 24)
    tokens = first.tokenizer.convert_ids_to_tokens(found[0])
    assert tokens == ["\u2581a", "\u2581", "c", "a", "t", *["</s>"] * 19]
    np.testing.assert_array_equal(found[1], found[0])
    assert first.tokenizer.convert_ids_to_tokens(found[2])[:5] == ["\u2581a", *"cat", "</s>"]
    found = second.tokenize(["A Cat."])
    assert found.shape == (1, 64)
    tokens = second.tokenizer.convert_ids_to_tokens(found[0])
    assert tokens == ["a", "\u2581", *"cat.", "<eos>", *["<pad>"] * 57]


def test_texts_that_cannot_be_read_are_refused(directories, tmp_path):
    model = models.from_pretrained(directories["siglip"])
    with pytest.raises(UserError, match=r"'x+' has 32 tokens, the model takes at most 24: shorten"):
        model.tokenize(["a", "x" * 30])
    model.companions = models.Companions(TOKENIZERS["siglip2"]())
    small = replace(model.config, text=replace(model.config.text, vocabulary=20))
    model.config = small
    with pytest.raises(UserError, match=r"up to 31\) are not those of this model \(vocabulary 20"):
        model.tokenize(["z"])
    model.companions = models.Companions()
    with pytest.raises(UserError, match=r"no tokenizer \(tokenizer.json, or spiece.model\)"):
        model.tokenize(["a"])


def test_a_sentencepiece_only_tokenizer_needs_the_package(tmp_path, monkeypatch):
    directory = write(tmp_path / "pieces", "siglip")
    (directory / "tokenizer.json").unlink()
    (directory / "spiece.model").write_bytes(b"not one")
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: False)
    with pytest.raises(UserError, match=r"pieces: .*spiece.model alone.*pip install sentencepiece"):
        models.from_pretrained(directory)


def test_classes_are_scored_independently(model):
    found = model.classify(PICTURES, NAMES)
    images = normalise(model.encode_image(model.preprocess(PICTURES)))
    texts = normalise(
        model.encode_text(model.tokenize([f"This is a photo of {n}." for n in NAMES]))
    )
    scale, bias = np.exp(model.logit_scale[...]), model.logit_bias[...]
    logits = scale * np.asarray(images @ texts.T) + bias
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-logits)), rtol=0, atol=2e-6)
    assert found.labels == [NAMES[i] for i in logits.argmax(axis=1)]
    np.testing.assert_array_equal(found.scores, found.probabilities.max(axis=1))
    one = model.classify(PICTURES, ["cat"])  # a softmax would be certain of it
    np.testing.assert_allclose(one.scores, found.probabilities[:, 0], rtol=0, atol=1e-6)


def test_the_label_is_the_highest_logit_even_if_probabilities_round_to_one(model):
    expected = model.classify(PICTURES, NAMES).labels
    model.logit_bias[...] = jnp.float32(1000)
    found = model.classify(PICTURES, NAMES)
    assert (found.probabilities == 1).all() and found.labels == expected
    assert len(set(expected)) > 1 or expected[0] != NAMES[0]


def test_models_merge_whole(model):
    other = jax.tree.map(lambda leaf: leaf + 1, model)
    merged = mm.merge(model, [other], scale=0.5)
    assert isinstance(merged, SigLIP)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 0.5, atol=1e-6), merged, model)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("vision_config", {"vision_use_head": False}, "vision_use_head is false"),
        ("vision_config", {"num_channels": 1}, "num_channels is 1"),
        ("vision_config", {"attention_dropout": 0.1}, "dropout is 0.1: SigLIP"),
        ("vision_config", {"image_size": [32, 16]}, "SigLIP needs one integer"),
        ("text_config", {"projection_size": 9}, "projection_size is 9, .*hidden_size 24"),
        ("text_config", {"hidden_act": "mish"}, "hidden_act 'mish' is not supported"),
    ],
    ids=lambda value: "",
)
def test_unsupported_settings_are_refused(section, changes, message, tmp_path):
    config = CONFIGS["siglip"]
    write(tmp_path, "siglip")
    changed = config | {section: config[section] | changes}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    for ask in (models.from_pretrained, models.known_shape):
        with pytest.raises(UserError, match=rf"config.json: .*{message}"):
            ask(str(tmp_path))


def test_naflex_is_refused_with_alternatives(directories, tmp_path):
    write(tmp_path, "siglip")
    config = CONFIGS["siglip"] | {"model_type": "siglip2"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for ask in (models.from_pretrained, models.known_shape, SigLIP.from_pretrained):
        with pytest.raises(UserError, match=r"NaFlex.*choose .*google/siglip2-base-patch16-224"):
            ask(str(tmp_path))


def test_errors_name_the_function_that_loads_any_family(directories, tiny_clip):
    with pytest.raises(UserError, match=r"'siglip', not 'clip': .*models.from_pretrained"):
        mm.CLIP.from_pretrained(directories["siglip"])
    with pytest.raises(UserError, match=r"'clip', not 'siglip': .*models.from_pretrained"):
        SigLIP.from_pretrained(tiny_clip)


def test_sizes_must_be_multiples_of_the_patch_or_the_models_own(directories):
    shape, _ = models.known_shape(str(directories["siglip2"]), image_size=22)
    assert isinstance(shape, SigLIPConfig) and shape.vision.grid == 5
    with pytest.raises(UserError, match=r"image_size 21 is not a multiple .* use 20 or 24"):
        models.known_shape(str(directories["siglip2"]), image_size=21)
    shape, _ = models.known_shape("google/siglip-base-patch16-224")
    assert models.num_entries(models.abstract_model(shape)) == 203_155_970


@pytest.mark.parametrize("own", [None, {"do_rescale": False}])
def test_a_towers_image_settings_are_completed_by_siglips(own, directories, tmp_path):
    whole, tower = directories["siglip"], tmp_path / "tower"
    tower.mkdir()
    config = CONFIGS["siglip"]["vision_config"] | {"model_type": "siglip_vision_model"}
    (tower / "config.json").write_text(json.dumps(config))
    tensors = load_file(whole / "model.safetensors")
    vision = {name: tensors[name] for name in tensors if name.startswith("vision_model.")}
    save_file(vision, tower / "model.safetensors")
    if own:
        (tower / "preprocessor_config.json").write_text(json.dumps(own))
    found = preprocessing_of(models.from_pretrained(tower, text_source=whole))
    assert (found.mean, found.std, found.geometry) == ((0.5,) * 3, (0.5,) * 3, Geometry(Exact()))
    assert found.white == (1 if own else 255)
