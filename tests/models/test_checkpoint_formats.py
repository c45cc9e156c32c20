"""One model in many published formats: each gives the same parameters, bit for bit."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from flax.serialization import msgpack_serialize
from safetensors.numpy import load_file, save_file

from magmax_jax.models import CLIP
from tests.models.weights import CONFIGS, weights, write_checkpoint

CONFIG = CONFIGS["legacy"]


def params(model: CLIP) -> dict[str, np.ndarray]:
    return {
        ".".join(path): np.asarray(leaf.get_value())
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


def assert_same(ours: CLIP, theirs: CLIP) -> None:
    ours, theirs = params(ours), params(theirs)
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        assert ours[path].dtype == np.float32
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


@pytest.fixture(scope="module")
def model(legacy) -> CLIP:
    return CLIP.from_pretrained(legacy)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_loads_exactly_and_saves_losslessly(dtype, tmp_path):
    tensors = weights(CONFIG, dtype)
    loaded = CLIP.from_pretrained(write_checkpoint(tmp_path / "half", CONFIG, tensors))
    exact = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    assert_same(loaded, CLIP.from_pretrained(write_checkpoint(tmp_path / "full", CONFIG, exact)))
    loaded.save_pretrained(tmp_path / "saved", dtype=np.dtype(dtype).name)
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert saved[name].dtype == tensor.dtype
        assert saved[name].tobytes() == tensor.tobytes(), name
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["dtype"] == np.dtype(dtype).name


def test_float32_round_trip_is_bit_exact(legacy, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    before, after = (load_file(d / "model.safetensors") for d in (legacy, tmp_path / "saved"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].shape == tensor.shape
        assert after[name].tobytes() == tensor.tobytes(), name
    again = CLIP.from_pretrained(tmp_path / "saved")
    assert again.config == model.config
    assert_same(again, model)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configuration_survives_the_round_trip(name, checkpoint, tmp_path):
    CLIP.from_pretrained(checkpoint(name)).save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["architectures"] == ["CLIPModel"]
    for key, value in CONFIGS[name].items():
        if isinstance(value, dict):
            assert value.items() <= saved[key].items()
        else:
            assert saved[key] == value


def test_image_size_is_saved_with_its_interpolated_positions(legacy, tmp_path):
    resized = CLIP.from_pretrained(legacy, image_size=48)
    assert resized.vision.position_embedding.shape == (37, 24)
    resized.save_pretrained(tmp_path / "saved")
    again = CLIP.from_pretrained(tmp_path / "saved")
    assert again.config.vision.image_size == 48
    assert again.preprocessor["crop_size"] == {"height": 48, "width": 48}
    assert again.preprocessor["size"] == {"shortest_edge": 48}
    assert_same(again, resized)


def test_sharded_safetensors(legacy, model, tmp_path):
    shutil.copy(legacy / "config.json", tmp_path)
    tensors = weights(CONFIG)
    where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in set(where.values()):
        save_file({n: t for n, t in tensors.items() if where[n] == shard}, tmp_path / shard)
    index = {"metadata": {}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(CLIP.from_pretrained(tmp_path), model)


def test_flax_msgpack(legacy, model, tmp_path):
    shutil.copy(legacy / "config.json", tmp_path)
    tree = {}
    for name, tensor in weights(CONFIG).items():
        *path, last = name.split(".")
        if last == "weight" and "norm" in path[-1]:
            last = "scale"
        elif last == "weight" and path[-1] in ("token_embedding", "position_embedding"):
            last = "embedding"
        elif last == "weight":
            last = "kernel"
            tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = np.ascontiguousarray(tensor)
    (tmp_path / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    assert_same(CLIP.from_pretrained(tmp_path), model)


OPENCLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 24,
            "head_width": 12,
            "mlp_ratio": 40 / 24,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 9,
            "vocab_size": 50,
            "width": 16,
            "heads": 4,
            "layers": 2,
            "mlp_ratio": 2.0,
        },
    },
    "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}


def openclip_tensors() -> dict[str, np.ndarray]:
    """The checkpoint "legacy" as OpenCLIP names and stores it."""
    ours = weights(CONFIG)
    found = {
        "logit_scale": ours["logit_scale"],
        "visual.proj": ours["visual_projection.weight"].T,
        "text_projection": ours["text_projection.weight"].T,
        "attn_mask": np.full((9, 9), -np.inf, np.float32),
    }
    for tower, prefix, names in (
        (
            "vision_model",
            "visual.",
            {
                "embeddings.class_embedding": "class_embedding",
                "embeddings.patch_embedding.weight": "conv1.weight",
                "embeddings.position_embedding.weight": "positional_embedding",
                "pre_layrnorm.weight": "ln_pre.weight",
                "pre_layrnorm.bias": "ln_pre.bias",
                "post_layernorm.weight": "ln_post.weight",
                "post_layernorm.bias": "ln_post.bias",
            },
        ),
        (
            "text_model",
            "",
            {
                "embeddings.token_embedding.weight": "token_embedding.weight",
                "embeddings.position_embedding.weight": "positional_embedding",
                "final_layer_norm.weight": "ln_final.weight",
                "final_layer_norm.bias": "ln_final.bias",
            },
        ),
    ):
        for theirs, openclip in names.items():
            found[prefix + openclip] = ours[f"{tower}.{theirs}"]
        for i in range(2):
            block, other = f"{tower}.encoder.layers.{i}", f"{prefix}transformer.resblocks.{i}"
            for kind in ("weight", "bias"):
                found[f"{other}.attn.in_proj_{kind}"] = np.concatenate(
                    [ours[f"{block}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
                )
                for theirs, openclip in {
                    "self_attn.out_proj": "attn.out_proj",
                    "layer_norm1": "ln_1",
                    "layer_norm2": "ln_2",
                    "mlp.fc1": "mlp.c_fc",
                    "mlp.fc2": "mlp.c_proj",
                }.items():
                    found[f"{other}.{openclip}.{kind}"] = ours[f"{block}.{theirs}.{kind}"]
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


@pytest.mark.parametrize("own_config", [True, False], ids=["config.json", "open_clip_config.json"])
def test_openclip(own_config, legacy, model, tmp_path):
    if own_config:
        shutil.copy(legacy / "config.json", tmp_path)
    else:
        (tmp_path / "open_clip_config.json").write_text(json.dumps(OPENCLIP_CONFIG))
    save_file(openclip_tensors(), tmp_path / "open_clip_model.safetensors")
    loaded = CLIP.from_pretrained(tmp_path)
    assert_same(loaded, model)
    assert loaded.config.vision == model.config.vision
    assert loaded.config.text.eos == 2
    if not own_config:
        assert loaded.preprocessor["image_mean"] == [0.1, 0.2, 0.3]


def test_old_checkpoints_carry_position_ids_and_a_vector_of_one_scale(model, tmp_path):
    tensors = weights(CONFIG)
    tensors["text_model.embeddings.position_ids"] = np.arange(9)[None]
    tensors["vision_model.embeddings.position_ids"] = np.arange(17)[None]
    tensors["logit_scale"] = tensors["logit_scale"].reshape(1)
    assert_same(CLIP.from_pretrained(write_checkpoint(tmp_path, CONFIG, tensors)), model)


def test_legacy_config_dicts_override(model, tmp_path):
    config = CONFIG | {
        "text_config": {"hidden_size": 512, "eos_token_id": 49407},
        "vision_config": {},
        "text_config_dict": CONFIG["text_config"],
        "vision_config_dict": CONFIG["vision_config"],
    }
    loaded = CLIP.from_pretrained(write_checkpoint(tmp_path, config, weights(CONFIG)))
    assert loaded.config == model.config
    assert_same(loaded, model)


def test_missing_configuration_fields_have_transformers_defaults(tmp_path):
    config = {
        "model_type": "clip",
        "projection_dim": 12,
        "text_config": {"num_hidden_layers": 1},
        "vision_config": {"num_hidden_layers": 1},
    }
    full = config | {
        "text_config": config["text_config"]
        | {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 49408}
        | {"max_position_embeddings": 77},
        "vision_config": config["vision_config"]
        | {"hidden_size": 768, "intermediate_size": 3072, "image_size": 224, "patch_size": 32},
    }
    loaded = CLIP.from_pretrained(
        write_checkpoint(tmp_path, config, weights(full, np.float16))
    ).config
    assert (loaded.vision.heads, loaded.text.heads) == (12, 8)
    assert (loaded.vision.activation, loaded.text.activation) == ("quick_gelu", "quick_gelu")
    assert (loaded.vision.epsilon, loaded.text.epsilon, loaded.text.eos) == (1e-5, 1e-5, 49407)


def test_real_checkpoint_round_trip(real_clip, tmp_path):
    model = CLIP.from_pretrained(real_clip)
    model.save_pretrained(tmp_path / "saved", dtype="float16")
    before, after = (load_file(d / "model.safetensors") for d in (real_clip, tmp_path / "saved"))
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    again = CLIP.from_pretrained(tmp_path / "saved")
    texts = ["a photo of a Cat's 2 kittens.", "", "naïve café — 東京 🙂"]
    assert again.tokenizer(texts)["input_ids"] == model.tokenizer(texts)["input_ids"]
    assert model.tokenizer("a photo of a cat")["input_ids"] == [
        *(49406, 320, 1125, 539, 320, 2368, 49407)
    ]
    assert again.preprocessor == model.preprocessor
    assert (again.config.text.bos, again.config.text.pad) == (49406, 49407)


def test_parameters_are_float32_whatever_the_compute_dtype(legacy, model):
    computed = CLIP.from_pretrained(legacy, dtype="bfloat16")
    assert_same(computed, model)
    features = jax.eval_shape(computed.encode_text, jax.ShapeDtypeStruct((2, 5), np.int32))
    assert features.dtype == ml_dtypes.bfloat16
