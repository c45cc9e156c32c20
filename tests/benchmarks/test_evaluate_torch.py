"""Our evaluation and torch's, timed side by side, recognise the same images."""

import importlib
import json

import numpy as np
import pytest

from benchmarks.evaluate import Settings, contenders
from benchmarks.serving import Facts
from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.data import Preprocessing, load_source
from magmax_jax.models import CLIP

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

IMAGES, MODELS = 90, 3


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Facts:
    """Digits for the small CLIP, with a head that spreads predictions over the classes."""
    data = tmp_path_factory.mktemp("data")
    config = CLIP.from_pretrained(TINY_CLIP).config
    source = load_source("digits", "test")
    images = np.stack([np.repeat(np.repeat(source.images[i], 4, 0), 4, 1) for i in range(IMAGES)])
    random = np.random.default_rng(0)
    np.save(data / "images.npy", images)  # the tower's size: both sides see the same pixels
    np.save(data / "labels.npy", source.labels[:IMAGES])
    np.save(data / "classes.npy", random.permutation(10).astype(np.int32).reshape(5, 2))
    np.save(data / "head.npy", random.standard_normal((config.projection, 10), np.float32))
    preprocessing = Preprocessing(config.vision.image_size)
    return {
        "model": TINY_CLIP, "data": str(data), "batch_size": 32, "dtype": "float32",
        "platform": "cpu", "mean": preprocessing.mean, "std": preprocessing.std,
    }  # fmt: skip


def prepared(name: str, work: Facts):
    """A contender that evaluates some models in this process, uncompiled."""
    settings = Settings(at_once=2, workers=0)
    (one,) = (one for one in contenders(settings, work) if one.name == name)
    module, _, function = one.function.partition(":")
    scales = [1 - 0.01 * i for i in range(MODELS)]
    asked = one.settings | {"scales": scales, "compiled": False}
    return getattr(importlib.import_module(module), function)(json.loads(json.dumps(asked)))


def right(name: str, work: Facts) -> list[dict[str, list[int]]]:
    """What a contender recognises in every task, by model and protocol."""
    ready = prepared(name, work)
    ready.call()
    return ready.last()["right"]


@pytest.fixture(scope="module")
def ours(work):
    return right("ours, 2 models at once", work)


@pytest.mark.parametrize("name", ["official way", "torch, compiled, one pass"])
def test_peers_recognise_the_same_images_as_ours(work, ours, name):
    assert right(name, work) == ours
    assert len(ours) == MODELS and len({str(found) for found in ours}) > 1
    for found in ours:
        agnostic, aware = (np.array(found[protocol]) for protocol in ("agnostic", "aware"))
        assert (agnostic <= aware).all() and 0 < agnostic.sum() < aware.sum() < IMAGES


def test_pillow_rounds_pixels_to_bytes_but_ours_does_not(work, tmp_path):
    """With resized images a few predictions may differ; the table reports them."""
    for name in ("labels", "classes", "head"):
        np.save(tmp_path / f"{name}.npy", np.load(f"{work['data']}/{name}.npy"))
    np.save(tmp_path / "images.npy", np.load(f"{work['data']}/images.npy")[:, ::4, ::4])
    small = work | {"data": str(tmp_path)}
    mine, theirs = right("ours", small), right("official way", small)
    apart = np.abs(np.subtract([m["agnostic"] for m in mine], [t["agnostic"] for t in theirs]))
    assert apart.sum() <= 0.02 * MODELS * IMAGES


@pytest.mark.parametrize("name", ["official way", "torch, compiled, one pass"])
def test_batches_of_every_size_are_compiled_beforehand(work, monkeypatch, name):
    """90 images are two batches of 32 and one of 26; split into five tasks the sizes differ."""
    from benchmarks.peers import evaluate_torch

    seen: list[int] = []
    forward = evaluate_torch.Tower.forward

    def spy(self, pixels):
        seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(evaluate_torch.Tower, "forward", spy)
    ready = prepared(name, work)
    before = set(seen)
    ready.call()
    assert before == set(seen) and len(before) > 1
