"""Our evaluation and torch's: what is timed side by side recognises the same images."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evaluation_work import Work, contenders, make_data, theta_0
from magmax_jax.data import load_source

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

FIELD = {one.name: one for one in contenders(at_once=2, workers=0)}
IMAGES, MODELS = 90, 3


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Digits for the small CLIP, with a head that has them all over the classes."""
    folder = tmp_path_factory.mktemp("work")
    path, shape, preprocessing = theta_0(folder, "tiny-clip", seed=0)
    data = make_data(folder / "data", IMAGES, 5, shape.projection, seed=0)
    source = load_source("digits", "test")
    images = np.stack([np.repeat(np.repeat(source.images[i], 4, 0), 4, 1) for i in range(IMAGES)])
    random = np.random.default_rng(0)
    np.save(data / "images.npy", images)  # of the tower's size: both sides see the same pixels
    np.save(data / "labels.npy", source.labels[:IMAGES])
    np.save(data / "classes.npy", random.permutation(10).astype(np.int32).reshape(5, 2))
    np.save(data / "head.npy", random.standard_normal((shape.projection, 10), np.float32))
    return Work(
        path, data, IMAGES, 5, 32, "float32", "cpu", preprocessing.mean, preprocessing.std
    ).of_models(MODELS)


@pytest.fixture(scope="module")
def ours(work):
    return right("ours, 2 models at once", work)


def right(name: str, work: Work, **options) -> list[dict[str, list[int]]]:
    """What a contender recognises of every task, by model and protocol; in this process."""
    contender = FIELD[name]
    module = importlib.import_module(contender.module)
    ready = module.prepare(json.loads(json.dumps(work.facts | contender.options | options)))
    ready.call()
    return ready.last()["right"]


@pytest.mark.parametrize("name", ["official way", "torch, compiled, one pass"])
def test_peers_recognise_what_ours_does(work, ours, name):
    assert right(name, work, compiled=False) == ours
    assert len(ours) == MODELS and len({str(found) for found in ours}) > 1
    for found in ours:
        agnostic, aware = (np.array(found[protocol]) for protocol in ("agnostic", "aware"))
        assert (agnostic <= aware).all() and 0 < agnostic.sum() < aware.sum() < IMAGES


def test_pillow_rounds_pixels_to_bytes_and_ours_does_not(work, tmp_path):
    """Images that are resized: few predictions may differ, as the table tells."""
    for file in work.data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    np.save(tmp_path / "images.npy", np.load(work.data / "images.npy")[:, ::4, ::4])
    small = replace(work, data=tmp_path)
    mine, theirs = right("ours", small), right("official way", small)
    apart = np.abs(np.subtract([m["agnostic"] for m in mine], [t["agnostic"] for t in theirs]))
    assert apart.sum() <= 0.02 * MODELS * IMAGES


@pytest.mark.parametrize("name", ["official way", "torch, compiled, one pass"])
def test_batches_of_every_size_are_compiled_beforehand(work, monkeypatch, name):
    """90 images are two batches of 32 and one of 26; in five tasks they are other ones."""
    from benchmarks.peers import evaluate_torch

    seen: list[int] = []
    forward = evaluate_torch.Tower.forward

    def spy(self, pixels):
        seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(evaluate_torch.Tower, "forward", spy)
    options = FIELD[name].options | {"compiled": False}
    ready = evaluate_torch.prepare(json.loads(json.dumps(work.facts | options)))
    before = set(seen)
    ready.call()
    assert before == set(seen) and len(before) > 1
