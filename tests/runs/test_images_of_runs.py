"""A run gives its model the same squares as the model's own image processor."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.inputs.geometry import Exact, Geometry, LongSide, ShortSide, Unresized
from magmax_jax.models import CLIP
from magmax_jax.runs.build import build_run
from magmax_jax.runs.default_preprocessing import default_preprocessing
from magmax_jax.runs.notes import image_notes
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device


def test_photos_of_several_sizes_are_squashed_if_the_model_expects_it(tiny_clip, tmp_path):
    clip = shutil.copytree(tiny_clip, tmp_path / "clip")
    size = {"height": 16, "width": 16}
    settings = {"size": size, "do_center_crop": False, "resample": 2}
    (clip / "preprocessor_config.json").write_text(json.dumps(settings))
    draw = np.random.default_rng(0)
    for number, shape in enumerate([(20, 60), (40, 24), (90, 30), (33, 33)]):
        for split in ("train", "test"):
            path = tmp_path / "photos" / split / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (*shape, 3), np.uint8)).save(path)
    config = ExperimentConfig(
        model=ModelConfig(str(clip)),
        scenario=ScenarioConfig(dataset="folder", data_dir=str(tmp_path / "photos"), num_tasks=1),
    )
    parts = build_run(config, build_scenario(config.scenario, 5), one_device())
    assert parts.preprocessing.geometry == Geometry(Exact(), Image.Resampling.BILINEAR)

    (batch,) = parts.test.batches
    squashed = {
        split: np.stack(
            [
                Image.open(path).resize((16, 16), Image.Resampling.BILINEAR)
                for path in sorted((tmp_path / "photos" / split).glob("*/*.png"))
            ]
        )
        for split in ("train", "test")
    }
    np.testing.assert_array_equal(batch.image[batch.mask], squashed["test"])
    (batch,) = parts.test_of(1).batches
    np.testing.assert_array_equal(batch.image[batch.mask], squashed["test"])
    batch = next(iter(parts.train_batches(1, 1)))
    shapes = batch.box[batch.mask][:, 2:]
    assert shapes.max() <= 30  # the canvas
    ratios = np.sort(shapes[:, 0] / shapes[:, 1])
    np.testing.assert_allclose(ratios, [20 / 60, 1, 40 / 24, 90 / 30], rtol=0.15)

    whole = replace(parts, config=replace(config, train=TrainConfig(crop_scale=(1, 1))))
    batch = next(iter(whole.train_batches(1, 1)))
    in_order = np.argsort(batch.index[batch.mask])
    np.testing.assert_array_equal(batch.image[batch.mask][in_order], squashed["train"])


def test_a_model_without_image_processor_settings_is_noted(tiny_clip, tmp_path):
    clip = shutil.copytree(tiny_clip, tmp_path / "clip")
    (clip / "preprocessor_config.json").unlink()
    assert default_preprocessing(CLIP.from_pretrained(clip), "tiny") == [
        "tiny has no image processor settings, so those of CLIPImageProcessor are used (mean "
        "0.481, 0.458, 0.408, std 0.269, 0.261, 0.276); if it was trained with different "
        "ones, put its preprocessor_config.json beside its weights"
    ]


def test_a_model_with_settings_is_not_noted(tiny_clip, tmp_path):
    clip = shutil.copytree(tiny_clip, tmp_path / "clip")
    (clip / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.5}))
    assert default_preprocessing(CLIP.from_pretrained(clip), "clip") == []


WIDER = Geometry(ShortSide(Fraction(8, 7)))


@pytest.mark.parametrize(
    ("geometry", "image_size", "start"),
    [
        (Geometry(), 112, None),
        (WIDER, None, None),
        (WIDER, 112, "images are resized to 128 and their central 112 x 112 pixels are shown"),
        (Geometry(Exact()), 112, None),
        (Geometry(Unresized()), 112, None),
        (Geometry(LongSide()), None, "images are padded to squares"),
    ],
)
def test_scaled_or_unsaveable_settings_are_noted(geometry, image_size, start):
    preprocessing = Preprocessing(image_size or 224, geometry=geometry)
    notes = image_notes(image_size, preprocessing)
    assert len(notes) == (start is not None)
    assert all(note.startswith(start) for note in notes)
