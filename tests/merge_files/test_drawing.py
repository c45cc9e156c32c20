"""Rules that thin at random merge files in chunks: the library's draws, one program, any cut."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.merge_files import chunk_sizes, plan
from magmax_jax.merge_files.by_chunk import merge_chunk
from tests.merge_files.conftest import merge, sources, write

SHAPES = {"a": (70, 31), "b": (3,), "c": (), "d": (2, 5000), "e": (1024,), "z": (0, 4)}
SPARSE = {"thin": "random", "densities": (0.5, 0.0, 0.2), "consensus": True, "seed": 5}
SPARSE_FLAGS = ["--rule", "sparse_task_arithmetic", "--seed", 5, "--options", "thin=random"]
SPARSE_FLAGS += ["densities=0.5,0,0.2", "consensus=true"]


@pytest.fixture
def places(tmp_path):
    random = np.random.default_rng(0)
    made = [{n: random.standard_normal(s, np.float32) for n, s in SHAPES.items()} for _ in range(4)]
    return [write(tmp_path / str(t), theta) for t, theta in enumerate(made)]


def merged_files(places, out, *flags) -> dict[str, np.ndarray]:
    assert merge(*sources(places), *flags, "--output", out) == 0
    return load_file(out / "model.safetensors")


def in_memory(places, rule, scale) -> dict[str, np.ndarray]:
    theta_0, *thetas = (load_file(place / "model.safetensors") for place in places)
    return mm.merge(theta_0, thetas, rule, scale)


@pytest.mark.parametrize("rescale", [False, True])
def test_chunks_draw_what_whole_tensors_draw(places, tmp_path, rescale):
    merge_chunk.clear_cache()
    found = merged_files(places, tmp_path / "out", *SPARSE_FLAGS, f"rescale={rescale}".lower())
    assert merge_chunk._cache_size() == 1  # for all shapes
    rule = mm.rules.sparse_task_arithmetic(**SPARSE, rescale=rescale)
    whole = in_memory(places, rule, 1.0)
    theta_0 = load_file(places[0] / "model.safetensors")
    for name, leaf in whole.items():
        np.testing.assert_array_equal(found[name] == theta_0[name], leaf == theta_0[name])
        # The norms' ratio and the compiled sums may round their last bit differently.
        np.testing.assert_allclose(found[name], leaf, rtol=2e-6, atol=1e-6)
    assert 0.2 < np.mean(found["d"] == theta_0["d"]) < 0.6  # (1 - 0.5)(1 - 0.2) = 0.4


def test_where_chunks_are_cut_changes_no_bit(places, tmp_path, monkeypatch):
    whole = merged_files(places, tmp_path / "whole", *SPARSE_FLAGS, "rescale=true")
    monkeypatch.setattr(chunk_sizes, "LARGEST", 4096)
    monkeypatch.setattr(chunk_sizes, "SMALLEST", 4096)
    cut = merged_files(places, tmp_path / "cut", *SPARSE_FLAGS, "rescale=true")
    for name in SHAPES:
        np.testing.assert_array_equal(cut[name], whole[name])


def test_dare_drops_the_same_entries_with_and_without_a_state(places, tmp_path):
    flags = ["--rule", "dare", "--options", "drop=0.7", "--seed", 3]
    chunks = merged_files(places, tmp_path / "chunks", *flags)
    tensors = merged_files(places, tmp_path / "tensors", *flags, "--state", tmp_path / "state")
    whole = in_memory(places, mm.rules.dare(0.7, seed=3), 0.3)
    for name in SHAPES:
        np.testing.assert_allclose(chunks[name], whole[name], rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(tensors[name], whole[name], rtol=2e-6, atol=1e-6)


def test_many_models_are_thinned_tensor_by_tensor(places, capsys, monkeypatch):
    flags = [*sources(places), "--rule", "dare", "--dry-run"]
    assert merge(*flags) == 0 and "in chunks" in capsys.readouterr().out
    monkeypatch.setattr(plan, "MOST_DRAWN", 2)
    assert merge(*flags) == 0 and "tensor by tensor" in capsys.readouterr().out
