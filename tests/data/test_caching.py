"""Small data sets cached in memory: decoded once, bit-identical, never sent to workers."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig
from magmax_jax.data import Source, train_batches
from magmax_jax.data.concat import join_datasets
from magmax_jax.data.pipeline import memory_cache
from magmax_jax.data.pipeline.memory_cache import Cached, cached
from magmax_jax.runs.build import build_run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from tests.data.cases import Pictures, assert_same, uniform


class Counted(Pictures):
    """Counts how often each image is read."""

    def __init__(self, shapes):
        super().__init__(shapes)
        self.reads = Counter()

    def __getitem__(self, index):
        self.reads[int(index)] += 1
        return super().__getitem__(index)


def counted(count=23, shape=(4, 6)):
    return replace(uniform(count), images=Counted([shape] * count), image_shape=shape)


def test_only_requested_images_are_read_and_each_once():
    plain, chosen = counted(), np.arange(3, 23, 2)
    source = cached(plain, size=32)
    assert len(source.images) == 23
    for seed in (1, 2):
        ours = train_batches(source, chosen, 4, 2, seed, size=32, threads=1)
        assert_same(ours, train_batches(uniform(), chosen, 4, 2, seed, size=32))
    assert plain.images.reads == dict.fromkeys(chosen.tolist(), 1)
    np.testing.assert_array_equal(source.images[7], plain.images[7])


def test_threads_may_read_the_same_images():
    images = Cached(Counted([(64, 64)] * 40), 40, (64, 64))
    orders = [np.random.default_rng(seed).permutation(40) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for order, rows in zip(orders, pool.map(images.rows, orders), strict=True):
            np.testing.assert_array_equal(rows, order[:, None, None, None] + 0 * rows)


def test_rows_are_copies():
    images = cached(counted(), size=32).images
    images.rows(np.array([1, 2]))[:] = 99
    np.testing.assert_array_equal(images.rows(np.array([2, 1]))[:, 0, 0, 0], [2, 1])


def test_unsuitable_sources_are_not_cached(monkeypatch):
    def kept(source):
        return isinstance(cached(source, size=32).images, Cached)

    assert kept(counted())
    assert not kept(uniform())  # an array already
    assert not kept(replace(counted(), image_shape=None))  # of mixed sizes
    assert not kept(counted(shape=(61, 80)))  # fitted on the host: the canvas is 60 pixels wide
    source = cached(counted(), size=32)
    assert cached(source, size=32) is source
    monkeypatch.setattr(memory_cache, "CACHED_BYTES", 23 * 4 * 6 * 3)
    assert kept(counted()) and not kept(counted(24))


def test_each_data_set_of_a_sequence_is_decided_separately():
    small, large = counted(), counted(shape=(61, 80))
    joined = join_datasets([small, uniform(), large], ["a", "b", "c"])
    kept = cached(joined, size=32)
    assert [isinstance(part, Cached) for part in kept.images.parts] == [True, False, False]
    assert cached(joined, size=32, workers=1) is joined
    for _ in range(2):
        for index in (3, 26, 50):
            np.testing.assert_array_equal(kept.images[index], joined.images[index])
    assert small.images.reads[3] == 3  # the uncached source is read twice


def test_pickling_leaves_the_pixels_behind():
    source = Source(Pictures([(64, 64)] * 50), np.zeros(50, np.int32), ("a",), image_shape=(64, 64))
    images = cached(source, size=64).images
    images.rows(np.arange(50))
    pickled = pickle.dumps(images)
    assert len(pickled) < 5_000 < images.rows(np.arange(50)).nbytes
    np.testing.assert_array_equal(pickle.loads(pickled)[3], images[3])


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_workers_and_cache_do_not_change_a_bit(threads):
    arguments = np.arange(23), 4, 3, 5, 32
    plain = train_batches(uniform(), *arguments)
    source = cached(counted(), size=32)
    for _ in range(2):  # once filling the cache, once from it
        assert_same(train_batches(source, *arguments, threads=threads), plain)
        assert_same(train_batches(source, *arguments, workers=2, threads=threads), plain)
    one_by_one = uniform(in_memory=False)
    assert_same(train_batches(one_by_one, *arguments, workers=1, threads=threads), plain)


def test_cached_sources_use_no_worker_processes():
    """Grain's iterators keep different states for threads and for processes."""
    arguments = np.arange(23), 4, 1, 5, 32
    for source in (uniform(), cached(counted(), size=32)):
        states = [
            iter(train_batches(source, *arguments, workers=workers)).get_state()
            for workers in (0, 2)
        ]
        assert states[0] == states[1]


def test_a_run_caches_training_images_and_test_batches_once(tmp_path):
    for split in ("train", "test"):
        for i, name in enumerate("ab"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / "a.png")
    config = ExperimentConfig(
        model=ModelConfig(source=TINY_CLIP),
        scenario=ScenarioConfig(dataset="folder", data_dir=str(tmp_path), num_tasks=2),
    )

    def parts(config):
        scenario = build_scenario(config.scenario, seed=0)
        return build_run(config, scenario, one_device())

    folder = parts(config)
    assert isinstance(folder.scenario.train.images, Cached)
    assert not isinstance(folder.scenario.test.images, Cached) and isinstance(
        folder.test.batches, list
    )
    digits = parts(replace(config, scenario=ScenarioConfig(dataset="digits", num_tasks=5)))
    assert isinstance(digits.scenario.train.images, np.ndarray)
    assert not isinstance(digits.test.batches, list)  # it would copy the array
    assert sum(batch.mask.sum() for batch in digits.test.batches) == digits.scenario.num_test
