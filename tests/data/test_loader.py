import gc
import json

import jax
import numpy as np
import pytest

from magmax_jax.data import Batch, Preprocessing, Source, eval_batches, num_batches, train_batches
from magmax_jax.data.pipeline.memory_cache import cached
from magmax_jax.data.readers.folder import ImageFiles
from magmax_jax.errors import UserError
from tests.data import SHARED, needs_shared
from tests.data.cases import assert_same, mixed, uniform


def test_batches_have_one_shape_and_lose_nothing():
    source, indices = uniform(), np.arange(3, 23)
    batches = list(eval_batches(source, indices, batch_size=8, size=32))
    assert len(batches) == num_batches(len(indices), 8) == 3
    for batch in batches:
        assert isinstance(batch, Batch)
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), batch)
        assert shapes == (
            ((8, 4, 6, 3), "uint8"),
            ((8, 4), "int32"),
            ((8,), "int32"),
            ((8,), "int32"),
            ((8,), "bool"),
        )
        np.testing.assert_array_equal(batch.mask, batch.index >= 0)
        np.testing.assert_array_equal(batch.image[batch.mask, 0, 0, 0], batch.index[batch.mask])
        np.testing.assert_array_equal(batch.label[batch.mask], batch.index[batch.mask] % 3)
        np.testing.assert_array_equal(batch.box, [[0, 0, 4, 6]] * 8)
    seen = np.concatenate([batch.index[batch.mask] for batch in batches])
    np.testing.assert_array_equal(seen, indices)
    assert not batches[-1].mask[4:].any() and not batches[-1].image[4:].any()


def test_padding_stays_finite_on_the_device():
    *_, last = eval_batches(uniform(), np.arange(3), 8, size=4)
    assert np.isfinite(jax.jit(Preprocessing(4).evaluate)(last.image, last.box)).all()


def test_every_epoch_has_every_index_once_in_a_new_order():
    indices = np.arange(2, 21)
    batches = list(train_batches(uniform(), indices, 8, epochs=3, seed=5, size=32))
    assert len(batches) == num_batches(len(indices), 8, epochs=3) == 9
    orders = [np.concatenate([b.index[b.mask] for b in batches[i : i + 3]]) for i in (0, 3, 6)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), indices)
        assert (order != indices).any()
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()


def test_the_seed_determines_the_order():
    def order(seed, epoch=0):
        batch = list(train_batches(uniform(), np.arange(23), 23, 2, seed, size=32))[epoch]
        return batch.index.tolist()

    assert order(5) == order(5)
    assert len({tuple(order(seed, epoch)) for seed in range(5) for epoch in (0, 1)}) == 10


def test_a_task_smaller_than_a_batch():
    (batch,) = train_batches(uniform(), np.array([7]), 4, 1, seed=0, size=32)
    np.testing.assert_array_equal(batch.index, [7, -1, -1, -1])


def test_reading_from_memory_equals_reading_one_by_one():
    arguments = np.arange(23), 8, 2, 5, 32
    assert_same(
        train_batches(uniform(), *arguments), train_batches(uniform(in_memory=False), *arguments)
    )


def test_worker_processes_do_not_change_a_bit():
    arguments = uniform(in_memory=False), np.arange(23), 4, 2, 5, 32
    assert_same(train_batches(*arguments, workers=2), train_batches(*arguments))


@pytest.mark.parametrize(
    "source",
    [uniform(21), uniform(21, in_memory=False), mixed()],
    ids=["memory", "one by one", "mixed"],
)
def test_hosts_read_parts_of_the_same_batches(source):
    """The second half of the last batch is all padding."""
    arguments = source, np.arange(len(source) // 8 * 8 + 3), 8, 2, 5, 32
    whole = list(train_batches(*arguments))
    parts = [list(train_batches(*arguments, rows=rows)) for rows in np.split(np.arange(8), 2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        jax.tree.map(
            lambda rows, *two: np.testing.assert_array_equal(rows, np.concatenate(two)),
            batch,
            *halves,
        )
    assert not parts[1][-1].mask.any()
    (half,) = eval_batches(source, np.arange(3), 8, 32, rows=np.array([1, 6]))
    np.testing.assert_array_equal(half.index, [1, -1])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "source",
    [uniform(), uniform(in_memory=False), cached(uniform(in_memory=False), 32)],
    ids=["memory", "one by one", "cached"],
)
def test_an_iterator_resumes_from_its_state(source, workers):
    batches = train_batches(source, np.arange(23), 8, 2, seed=5, size=32, workers=workers)
    iterator = iter(batches)
    for _ in range(2):
        next(iterator)
    state = iterator.get_state()
    resumed = iter(batches)
    resumed.set_state(json.loads(json.dumps(state)))  # as stored in checkpoints
    assert_same(resumed, iterator)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_from_any_thread_or_process(tmp_path, workers):
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"damaged")
    source = Source(ImageFiles((str(path),)), np.zeros(1, np.int32), ("a",))
    with pytest.raises(UserError, match=r"bad.jpg: not a readable image"):
        list(eval_batches(source, np.arange(1), 1, size=8, workers=workers))


@needs_shared("tensorflow_datasets/cifar100")
def test_processes_reopen_tfds_records():
    from magmax_jax.data import load_source

    # Grain cannot release shared memory while TFDS is imported: TFDS's lazy imports replace the
    # import function for everyone, including `SharedMemory.unlink`.
    gc.collect()
    source = load_source("cifar100", "test", str(SHARED / "tensorflow_datasets"))
    arguments = source, np.arange(0, 5000, 50), 32, 32
    assert_same(eval_batches(*arguments, workers=1), eval_batches(*arguments))
