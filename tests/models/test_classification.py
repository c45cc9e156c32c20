"""Images in, labels out: every accepted form of image, and what is refused."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn
from flax import nnx
from PIL import Image

from benchmarks.virtual_devices import virtual_devices
from magmax_jax import models
from magmax_jax.cli.main import main
from magmax_jax.data import Preprocessing, eval_batches, load_source
from magmax_jax.data.readers.folder import load_folder
from magmax_jax.errors import UserError
from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.evaluation.counts_file import read_counts
from magmax_jax.inputs.prompts import NUMBERS
from magmax_jax.models import CLIP, normalise, zero_shot_head
from tests.models.linear_family import LinearConfig, LinearModel

BUNDLED = Path(models.__file__).parents[1] / "cli" / "assets" / "tiny-clip"
FOLDER = Path(sklearn.__file__).parent / "datasets" / "images"
NAMES = ["cat", "dog", "oak tree"]
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tiny_clip) -> CLIP:
    return CLIP.from_pretrained(tiny_clip)


def in_mode(mode: str) -> Image.Image:
    return Image.fromarray(PICTURES[0]).convert(mode)


def turned() -> Image.Image:
    """A picture whose EXIF data request a rotation."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    in_mode("RGB").save(buffer, "PNG", exif=exif)
    return Image.open(buffer)


def test_pixels_match_the_evaluation_of_a_folder(model, tmp_path):
    """In any mode and with mixed sizes, the tower sees what `magmax evaluate` would show it."""
    modes = ["RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "LA"]
    pictures = {f"{i}.tiff": in_mode(mode) for i, mode in enumerate(modes)}
    pictures |= {"8.png": turned(), "9.png": Image.new("RGBA", (9, 50), (200, 10, 60, 0))}
    folder = tmp_path / "test" / "one"
    folder.mkdir(parents=True)
    for name, picture in pictures.items():
        picture.save(folder / name, exif=picture.getexif())
    source = load_folder(str(tmp_path), "test")
    (batch,) = eval_batches(source, np.arange(len(source)), len(source), size=16)
    preprocessing = Preprocessing.from_config(model.preprocessor, 16)
    evaluate = jax.jit(Preprocessing.evaluate, static_argnums=0)
    expected = evaluate(preprocessing, batch.image, batch.box)

    np.testing.assert_array_equal(model.preprocess(sorted(folder.iterdir())), expected)
    np.testing.assert_array_equal(model.preprocess(list(pictures.values())), expected)
    assert expected.shape == (10, 16, 16, 3) and expected.dtype == jnp.float32


def test_one_image_is_a_batch_of_one(model, tmp_path):
    Image.fromarray(PICTURES[0]).save(tmp_path / "0.png")
    expected = model.preprocess(list(PICTURES))[:1]
    for image in (
        PICTURES[0],
        jnp.asarray(PICTURES[0]),
        Image.fromarray(PICTURES[0]),
        tmp_path / "0.png",
        str(tmp_path / "0.png"),
    ):
        np.testing.assert_array_equal(model.preprocess(image), expected)
    grey = PICTURES[0, :, :, 0]
    np.testing.assert_array_equal(
        model.preprocess(grey), model.preprocess(np.stack([grey] * 3, axis=-1))
    )


def test_a_batch_of_arrays_is_resized_on_the_device_as_data_of_one_size(model):
    preprocessing = Preprocessing.from_config(model.preprocessor, 16)
    small = PICTURES[:, :20]
    boxes = np.int32([[0, 0, 20, 30]] * 5)
    expected = jax.jit(Preprocessing.evaluate, static_argnums=0)(preprocessing, small, boxes)
    np.testing.assert_array_equal(model.preprocess(small), expected)
    # Two steps of 1/255, divided by a standard deviation of 1/2.
    np.testing.assert_allclose(model.preprocess(list(small)), expected, rtol=0, atol=4 / 255 + 1e-6)


def test_labels_scores_and_probabilities(model):
    found = model.classify(list(PICTURES), NAMES)
    features = normalise(model.encode_image(model.preprocess(list(PICTURES))))
    logits = features @ zero_shot_head(model, NAMES, ["a photo of a {}."])
    expected = np.asarray(jax.nn.softmax(logits))
    assert found.probabilities.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.scores, found.probabilities.max(axis=1))
    assert found.labels == [NAMES[i] for i in expected.argmax(axis=1)]


def test_batches_and_generators_change_nothing(model):
    expected = model.classify(list(PICTURES), NAMES)
    for images, batch_size in ((list(PICTURES), 2), (iter(PICTURES), 3), (list(PICTURES), 1)):
        found = model.classify(images, tuple(NAMES), batch_size=batch_size)
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-6)


def test_images_are_read_a_batch_at_a_time(model):
    taken = []

    def pictures():
        for i, picture in enumerate(PICTURES):
            taken.append(i)
            yield picture if i < 4 else "nowhere.png"

    with pytest.raises(UserError, match=r"nowhere\.png: not a readable image"):
        model.classify(pictures(), NAMES, batch_size=2)
    assert taken == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("none", [[], np.zeros((0, 8, 8, 3), np.uint8), ()], ids=repr)
def test_no_images_and_one_class(model, none):
    assert model.preprocess(none).shape == (0, 16, 16, 3)
    found = model.classify(none, NAMES)
    assert found.labels == [] and found.probabilities.shape == (0, 3)
    assert model.classify(PICTURES[0], ["cat"]).labels == ["cat"]


def test_templates(model):
    plain = model.classify(PICTURES[0], NAMES, "{}")
    np.testing.assert_array_equal(
        plain.probabilities, model.classify(PICTURES[0], NAMES, ["{}"]).probabilities
    )
    assert (plain.probabilities != model.classify(PICTURES[0], NAMES).probabilities).any()


def test_a_head_is_recomputed_when_the_text_tower_changes(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    before = model.classify(PICTURES[0], NAMES).probabilities
    np.testing.assert_array_equal(model.classify(PICTURES[0], NAMES).probabilities, before)
    kernel = model.text.projection.kernel
    kernel[...] = -kernel[...]
    after = model.classify(PICTURES[0], NAMES).probabilities
    assert after.argmin() == before.argmax()
    model.logit_scale[...] = jnp.float32(0)
    assert np.ptp(model.classify(PICTURES[0], NAMES).probabilities) < np.ptp(after)
    model.logit_scale[...] = jnp.float32(4)
    model = jax.tree.map(np.array, model)  # NumPy arrays can change in place
    before = model.classify(PICTURES[0], NAMES).probabilities
    np.negative(kernel := model.text.projection.kernel.get_value(), out=kernel)
    assert model.classify(PICTURES[0], NAMES).probabilities.argmin() == before.argmax()


def test_a_model_that_is_broken_is_reported(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    model.vision.projection.kernel[...] = jnp.full((32, 16), jnp.nan)
    with pytest.raises(UserError, match="no finite probabilities"):
        model.classify(PICTURES[0], NAMES)


@pytest.mark.slow
def test_labels_of_digits_match_an_evaluation(tmp_path):
    """The confusions that `magmax evaluate` counts for the bundled CLIP on handwritten digits."""
    flags = "--scenario.dataset digits --scenario.num-tasks 2 --cache None --out"
    assert main(["evaluate", str(BUNDLED), *flags.split(), str(tmp_path / "out")]) == 0
    counted = read_counts(tmp_path / "out" / "counts" / "001.safetensors")["confusions"]

    source = load_source("digits", "test")
    found = CLIP.from_pretrained(BUNDLED).classify(source.images, source.class_names, NUMBERS)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (source.labels, [source.class_names.index(x) for x in found.labels]), 1)
    np.testing.assert_array_equal(confusion, as_matrix(counted, 10))
    assert 0.6 < confusion.trace() / confusion.sum() < 0.8


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (PICTURES.transpose(0, 3, 1, 2), r"\(5, 3, 40, 30\), channels first: .*\(0, 2, 3, 1\)"),
        (PICTURES[0].transpose(2, 0, 1), r"\(3, 40, 30\), channels first: .*\(1, 2, 0\)"),
        ([PICTURES[0], PICTURES[1].transpose(2, 0, 1)], r"image 1: .*channels first"),
        (PICTURES / 255, r"pixels are float64: give uint8 .*\[0, 1\]"),
        ([PICTURES[0].astype(np.float32)], r"image 0: pixels are float32"),
        (PICTURES.astype(int), "pixels are int64"),
        (PICTURES[..., 0], r"shape \(5, 40, 30\): give .*\(b, h, w, 3\)"),
        ([PICTURES], r"image 0: .*\(5, 40, 30, 3\)"),
        (PICTURES[..., :2], r"\(5, 40, 30, 2\)"),
        (PICTURES[:, :0], r"\(5, 0, 30, 3\)"),
        (7, "int is not an image"),
        ([None], "image 0: NoneType is not an image"),
        ("nowhere.png", r"nowhere\.png: not a readable image \(No such file"),
        (__file__, r"test_classification\.py: not a readable image \(not an image"),
        (str(FOLDER), "not a readable image"),
        (Image.new("F", (8, 8)), "32-bit pixels"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_anything_but_an_image_is_refused(model, images, said):
    for ask in (model.preprocess, lambda images: model.classify(images, NAMES)):
        with pytest.raises(UserError, match=said) as raised:
            ask(images)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ("cat", {}, "string 'cat': give a list"),
        (["cat", 3], {}, "class name 3 is not a string"),
        (["cat", "dog", "cat"], {}, "more than once: cat"),
        ([], {}, "there are no class names"),
        (NAMES, {"templates": "a photo"}, r"'a photo' has no \{\}"),
        (NAMES, {"templates": []}, "there are no templates"),
        (NAMES, {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_errors_in_class_names_and_options_are_named(model, names, options, said):
    with pytest.raises(UserError, match=said):
        model.classify(PICTURES[0], names, **options)


def test_the_tower_refuses_images_that_were_not_preprocessed(model):
    for pixels, kind in ((jnp.zeros((2, 16, 16, 3), jnp.uint8), "uint8"), ([in_mode("L")], "list")):
        with pytest.raises(UserError, match=rf"pixels are {kind}, .*call model\.preprocess"):
            model.encode_image(pixels)
    with pytest.raises(UserError, match=r"\(2, 3, 16, 16\), channels first: .*\(b, h, w, 3\)"):
        model.encode_image(jnp.zeros((2, 3, 16, 16)))


def test_another_family_is_classified_by_the_same_functions():
    model = LinearModel(LinearConfig(image_size=8), nnx.Rngs(0))
    assert models.preprocess(model, PICTURES).shape == (5, 8, 8, 3)
    found = models.classify(model, PICTURES, NAMES)
    assert set(found.labels) <= set(NAMES) and found.probabilities.shape == (5, 3)


@pytest.mark.slow
def test_a_sharded_clip_on_any_mesh_classifies_as_on_one_device(tiny_clip):
    shown = subprocess.run(
        [sys.executable, "-m", "tests.models.sharded_clip", str(tiny_clip)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | virtual_devices(4),
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "the same labels on 4 devices" in shown.stdout
