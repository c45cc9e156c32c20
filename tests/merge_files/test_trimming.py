"""`ties` per tensor merges files in chunks: the library's bits, one program for all shapes."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import chunk_sizes
from magmax_jax.merge_files.by_chunk import merge_chunk
from magmax_jax.merge_files.chunk_sizes import LANES
from magmax_jax.merge_files.stream import cut
from magmax_jax.merge_files.trimming import trim_rows
from tests.merge_files.conftest import merge, sources, write

SHAPES = {"a": (70, 31), "b": (3,), "c": (), "d": (2, 5000), "e": (1024,), "z": (0, 4)}


@pytest.fixture
def places(tmp_path):
    random = np.random.default_rng(0)

    def theta() -> dict[str, np.ndarray]:
        found = {n: random.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
        return found | {"e": found["e"].astype(ml_dtypes.bfloat16)}

    return [write(tmp_path / str(t), theta()) for t in range(4)]


@pytest.mark.parametrize("majority", [None, 1])
@pytest.mark.parametrize("density", [0.2, 1.0, 0.0])
def test_chunks_match_whole_tensors_bit_for_bit(places, tmp_path, monkeypatch, density, majority):
    monkeypatch.setattr(chunk_sizes, "LARGEST", 4096)
    monkeypatch.setattr(chunk_sizes, "SMALLEST", 4096)
    options = ["threshold=per_tensor", f"density={density}"]
    options += [] if majority is None else [f"majority={majority}"]
    out = tmp_path / "out"
    merge_chunk.clear_cache()
    assert merge(*sources(places), "--rule", "ties", "--options", *options, "--output", out) == 0
    assert merge_chunk._cache_size() == 2  # one for each dtype
    theta_0, *thetas = (load_file(place / "model.safetensors") for place in places)
    rule = mm.rules.ties(density, threshold="per_tensor", majority=majority)
    base = {name: value.astype(np.float32) for name, value in theta_0.items()}
    taus = [
        {name: theta[name].astype(np.float32) - base[name] for name in base} for theta in thetas
    ]
    tau = {name: np.asarray(leaf) for name, leaf in rule.finalize(tuple(taus)).items()}
    for name, found in load_file(out / "model.safetensors").items():
        # Both the product and the sum are rounded.
        theta = (base[name] + np.float32(0.55) * tau[name]).astype(theta_0[name].dtype)
        np.testing.assert_array_equal(found, np.where(tau[name] == 0, theta_0[name], theta))


def test_every_entry_below_its_rows_threshold_is_zero():
    tau = np.tile(np.float32([1, -2, 3, -4]), LANES // 2)  # two rows
    found = np.asarray(trim_rows(tau, np.float32([2, 4])))
    np.testing.assert_array_equal(found[:4], [0, -2, 3, -4])
    np.testing.assert_array_equal(found[LANES : LANES + 4], [0, 0, 0, -4])


def test_aligned_tensors_begin_at_rows(places):
    files = open_tensors(places[0])
    pieces = [piece for part in cut(list(SHAPES), [files], 4096, align=LANES) for piece in part]
    assert all(piece.position % LANES == 0 for piece in pieces)
    sizes = {name: sum(p.size for p in pieces if p.name == name) for name in SHAPES}
    assert sizes == {name: int(np.prod(shape)) for name, shape in SHAPES.items()}


def test_the_plan_says_that_trimming_is_chunked(places, capsys):
    flags = ["--rule", "ties", "--options", "threshold=per_tensor", "--dry-run"]
    assert merge(*sources(places), *flags) == 0
    assert "in chunks, all models side by side" in capsys.readouterr().out
