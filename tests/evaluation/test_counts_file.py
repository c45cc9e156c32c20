"""Counts on disk: pairs, the matrices of earlier versions, and damage."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.errors import UserError
from magmax_jax.evaluation.counts import Counts, as_matrix
from magmax_jax.evaluation.counts_file import read_counts, write_counts

TASKS, DOMAINS, CLASSES, IMAGES = 3, 2, 4, 50


@pytest.fixture
def counts() -> Counts:
    draw = np.random.default_rng(0)
    shape = TASKS, 1 + DOMAINS, CLASSES
    total = draw.multinomial(IMAGES, np.full(np.prod(shape), 1 / np.prod(shape))).reshape(shape)
    right = total // 2
    matrix = np.stack([draw.multinomial(n, [0.5, 0.5, 0, 0]) for n in total.sum((0, 1))])
    pairs = [(i, j, n) for (i, j), n in np.ndenumerate(matrix) if n]
    found = (right, right, total, total, total, np.array(pairs))
    return Counts(*(each.astype(np.int32) for each in found))


@pytest.fixture
def file(counts, tmp_path) -> Path:
    path = tmp_path / "counts" / "000-zero_shot.safetensors"
    write_counts(path, counts)
    return path


def test_counts_are_read_as_written_and_take_the_smallest_integers(counts, file):
    assert {str(array.dtype) for array in load_file(file).values()} == {"uint8"}
    found = read_counts(file)
    assert found.keys() == set(Counts._fields)
    for name, array in counts._asdict().items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("top5", [True, False])
def test_files_of_earlier_versions_hold_a_matrix(counts, file, top5):
    arrays = load_file(file)
    arrays["confusion"] = as_matrix(arrays.pop("confusions"), CLASSES)
    if not top5:
        del arrays["agnostic_top5"], arrays["aware_top5"]
    save_file(arrays, file)
    np.testing.assert_array_equal(read_counts(file)["confusions"], counts.confusions)


def _first(found: dict[str, np.ndarray], column: int, by: int) -> None:
    found["confusions"] = found["confusions"].astype(np.int64)
    found["confusions"][0, column] += by


DAMAGES = {
    "no total": lambda found: found.pop("total"),
    "no confusions": lambda found: found.pop("confusions"),
    "another shape": lambda found: found.update(aware=found["aware"][:1]),
    "fractions": lambda found: found.update(total=found["total"].astype(np.float32)),
    "no class": lambda found: found.update(
        {name: array[..., :0] for name, array in found.items() if array.ndim == 3}
        | {"confusions": np.zeros((0, 3), np.uint8)}
    ),
    "pairs of fractions": lambda found: found.update(
        confusions=found["confusions"].astype(np.float32)
    ),
    "four columns": lambda found: found.update(confusions=np.zeros((3, 4), np.uint8)),
    "a flat list": lambda found: found.update(confusions=found["confusions"].ravel()),
    "pairs and a matrix": lambda found: found.update(
        confusion=as_matrix(found["confusions"], CLASSES)
    ),
    "a matrix of another size": lambda found: found.update(
        confusion=as_matrix(found.pop("confusions"), CLASSES + 1)
    ),
    "another matrix": lambda found: found.update(
        confusion=as_matrix(found.pop("confusions"), CLASSES) + np.uint8(1)
    ),
    "an unknown label": lambda found: _first(found, 0, CLASSES),
    "a negative label": lambda found: _first(found, 0, -1),
    "an unknown prediction": lambda found: _first(found, 1, CLASSES),
    "another number of samples": lambda found: _first(found, 2, 1),
    "a pair left out": lambda found: found.update(confusions=found["confusions"][1:]),
    "an empty pair": lambda found: found.update(
        confusions=np.vstack([found["confusions"], [CLASSES - 1, CLASSES - 1, 0]]).astype(np.uint8)
    ),
    "another order": lambda found: found.update(confusions=found["confusions"][::-1].copy()),
    "more right than there are": lambda found: found.update(agnostic=found["total"] + np.uint8(1)),
    "fewer than none": lambda found: found.update(
        agnostic=found["agnostic"].astype(np.int8) - np.int8(100)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_contents_are_refused(file, damage):
    found = load_file(file)
    DAMAGES[damage](found)
    save_file(found, file)
    with pytest.raises(UserError, match="is damaged: it does not hold the counts of an evaluation"):
        read_counts(file)
