"""Preprocessing read from checkpoints: the pixels of transformers' own processors (PIL backend).

These processors do not need torch. Pixels on the device are not rounded, so they differ by 0.25 of
255 on average; pixels on the host are equal.
"""

import json

import jax
import numpy as np
import pytest
import transformers
from PIL import Image

from magmax_jax.data import Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.inputs.geometry import Exact, LongSide, ShortSide
from magmax_jax.inputs.host_resize import centre_square
from magmax_jax.inputs.processor_settings import PROCESSORS
from magmax_jax.models import CLIP
from magmax_jax.models.checkpoint import Companions, read_preprocessor, saved_preprocessor
from magmax_jax.models.clip.openclip_preprocessor import openclip_preprocessor
from tests.models.test_checkpoint_formats import OPENCLIP_CONFIG, openclip_tensors, save_file

SIZE = 24
BASE = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
SQUASH = {"size": {"height": SIZE, "width": SIZE}, "do_center_crop": False}
SETTINGS = {
    "CLIP": BASE,
    "resize 28, crop 24": BASE | {"size": 28},
    "bilinear": BASE | {"resample": 2},
    "squash": SQUASH,
    "squash 28, crop 24, lanczos": BASE | {"size": [28, 28], "resample": 1},
    "padded": BASE | {"size": {"shortest_edge": 20}},
    "do_resize off": BASE | {"do_resize": None},
    "do_normalize off": BASE | {"do_normalize": False, "image_mean": None},
    "do_rescale off": BASE | {"do_rescale": False, "image_mean": 127.5, "image_std": 127.5},
    "scalars": BASE | {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 0.5},
    "nulls": SQUASH | {"do_center_crop": None, "crop_size": None, "do_pad": None, "size": [24, 24]},
    "SigLIP": {"image_processor_type": "SiglipImageProcessorFast", "size": SQUASH["size"]},
    "ViT": {"feature_extractor_type": "ViTFeatureExtractor", "size": SIZE},
}


def photo(height=40, width=61):
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / a + y / b) for a, b in ((7, 5), (5, 11), (13, 4))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def theirs(directory, image):
    """float32 (h, w, 3) from the processor that transformers finds in a directory."""
    processor = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil")
    pixels = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"]
    return np.moveaxis(pixels[0], 0, -1)


def ours(preprocessing, image, on_host):
    image, box = (
        centre_square(image, preprocessing.size, preprocessing.geometry)
        if on_host
        else (image, (0, 0, *image.shape[:2]))
    )
    return np.asarray(preprocessing.evaluate(image[None], np.array([box], np.int32)))[0]


def put(directory, settings, name="preprocessor_config.json"):
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps(settings))
    return directory


@pytest.mark.parametrize("name", SETTINGS)
def test_pixels_match_transformers(name, tmp_path):
    named = {"image_processor_type": "CLIPImageProcessor"}
    if "feature_extractor_type" in SETTINGS[name]:
        named = {}
    source = put(tmp_path / "source", named | SETTINGS[name])
    settings = read_preprocessor(source)
    preprocessing = Preprocessing.from_config(settings, SIZE)
    expected = theirs(source, photo())
    unit = preprocessing.white * np.array(preprocessing.std)

    device = np.abs(ours(preprocessing, photo(), False) - expected) * unit
    assert device.mean() < 0.5 and device.max() < 2.5
    host = np.abs(ours(preprocessing, photo(), True) - expected) * unit
    assert host.max() < 0.01

    saved = saved_preprocessor(settings, "CLIPImageProcessor", SIZE)
    there = put(tmp_path / "saved", saved)
    np.testing.assert_allclose(theirs(there, photo()), expected, rtol=0, atol=1e-5)
    assert Preprocessing.from_config(read_preprocessor(there), SIZE) == preprocessing


@pytest.mark.parametrize("name", PROCESSORS)
def test_defaults_match_transformers_classes(name, tmp_path):
    own = put(tmp_path, {"image_processor_type": name})
    image = photo(230, 300)
    preprocessing = Preprocessing.from_config(read_preprocessor(own))
    expected = theirs(own, image)
    np.testing.assert_allclose(ours(preprocessing, image, True), expected, rtol=0, atol=1e-4)
    number = put(tmp_path / "number", {"image_processor_type": name, "size": 224})
    if expected.shape == theirs(number, image).shape:
        found = Preprocessing.from_config(read_preprocessor(number))
        np.testing.assert_allclose(ours(found, image, True), theirs(number, image), atol=1e-4)
    else:
        with pytest.raises(UserError, match="would not all become squares"):
            read_preprocessor(number)


def test_edges_keep_their_ratio_at_another_image_size():
    settings = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    saved = saved_preprocessor(settings, "CLIPImageProcessor", 112)
    assert saved["size"] == {"shortest_edge": 128}
    assert saved["crop_size"] == {"height": 112, "width": 112}


def test_the_nested_file_wins_and_family_defaults_fill_gaps(tmp_path):
    assert read_preprocessor(tmp_path) is None
    assert read_preprocessor(tmp_path, "SiglipImageProcessor") is None
    put(tmp_path, {"resample": 2})
    siglip = read_preprocessor(tmp_path, "SiglipImageProcessor")
    assert siglip == {"image_processor_type": "SiglipImageProcessor", "resample": 2}
    assert Preprocessing.from_config(siglip).geometry.resize == Exact()
    put(tmp_path, {"image_processor": {"resample": 1}}, "processor_config.json")
    assert read_preprocessor(tmp_path) == {"resample": 1}
    put(tmp_path, {"tokenizer_class": "CLIPTokenizer"}, "processor_config.json")
    assert read_preprocessor(tmp_path) == {"resample": 2}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"resample": 0}, "preprocessor_config.json"),
        ({"image_processor": {"resample": 0}}, "processor_config.json"),
    ],
)
def test_unsupported_settings_are_refused_with_their_file(settings, name, legacy, tmp_path):
    put(tmp_path, settings, name)
    with pytest.raises(UserError, match=rf"{tmp_path}/{name}: resample is 0: give one of 1"):
        read_preprocessor(tmp_path)


def test_companions_that_preprocess_alike_are_equal():
    plain = Companions(preprocessor=None)
    assert plain == Companions(preprocessor=saved_preprocessor(None, "CLIPImageProcessor", 32))
    assert plain == Companions(preprocessor={"processor_class": "CLIPProcessor"})
    for change in (
        {"resample": 2},
        {"size": {"height": 224, "width": 224}},
        {"size": {"shortest_edge": 256}},
        {"do_normalize": False},
        {"image_mean": 0.5},
        {"do_rescale": False},
    ):
        assert plain != Companions(preprocessor=change)


OPENCLIP = {
    "shortest": ({"resize_mode": None}, ShortSide()),
    "squash": ({"resize_mode": "squash", "interpolation": "bilinear"}, Exact()),
    "longest": ({"resize_mode": "longest", "fill_color": 9, "interpolation": "random"}, LongSide()),
    "longest on grey": ({"resize_mode": "longest", "fill_color": [9, 9, 9]}, LongSide()),
}


@pytest.mark.parametrize("mode", OPENCLIP)
def test_openclips_settings_become_a_processors(mode, tmp_path):
    config, resize = OPENCLIP[mode]
    values = {"mean": 0.5, "std": [0.2, 0.3, 0.4], "mode": "RGB", "size": [9, 9]} | config
    settings = openclip_preprocessor({"preprocess_cfg": values})
    found = Preprocessing.from_config(settings, SIZE)
    assert found.mean == (0.5, 0.5, 0.5) and found.std == (0.2, 0.3, 0.4)
    assert found.geometry.resize == resize
    assert found.geometry.resample == (2 if mode == "squash" else 3)
    assert found.geometry.fill == (9 if "longest" in mode else 0)
    saved = saved_preprocessor(settings, "CLIPImageProcessor", SIZE)
    assert Preprocessing.from_config(saved, SIZE) == found
    if "longest" not in mode:  # transformers has no setting for it
        expected = theirs(put(tmp_path, saved), photo())
        np.testing.assert_allclose(ours(found, photo(), True), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resize_mode": "crop"}, "resize_mode is 'crop': give one of shortest, squash, longest"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest': give one of bicubic, bil"),
        ({"mode": "L"}, "mode is 'L'"),
        ({"mean": [1, 2]}, r"mean is \[1, 2\]: give three numbers"),
        ({"fill_color": [1, 2, 3], "resize_mode": "longest"}, r"fill_color is \[1, 2, 3\]"),
    ],
)
def test_unsupported_openclip_settings_are_refused(values, message, tmp_path):
    config = OPENCLIP_CONFIG | {"preprocess_cfg": values}
    put(tmp_path, config, "open_clip_config.json")
    save_file(openclip_tensors(), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=message) as raised:
        CLIP.from_pretrained(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/open_clip_config.json: ")


def test_openclips_weights_come_with_openclips_preprocessing(tmp_path):
    config = OPENCLIP_CONFIG | {"preprocess_cfg": {"resize_mode": "squash"}}
    put(tmp_path, config, "open_clip_config.json")
    put(tmp_path, {"resample": 2})
    save_file(openclip_tensors(), tmp_path / "open_clip_model.safetensors")
    model = CLIP.from_pretrained(tmp_path)
    assert model.preprocessor["size"] == {"height": 32, "width": 32}
    image = photo()
    squashed = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    plain = Preprocessing(32)
    expected = (squashed / 255 - np.array(plain.mean)) / np.array(plain.std)
    np.testing.assert_allclose(model.preprocess([image])[0], expected, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved", image), expected, rtol=0, atol=1e-5)
    assert jax.tree.structure(CLIP.from_pretrained(tmp_path / "saved")) == jax.tree.structure(model)
