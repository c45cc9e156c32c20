"""`magmax merge` on files of any model: the library's bits, out of core, and no partial output."""

import errno
import json
import os

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.io.safetensors import writer
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import chunk_sizes
from magmax_jax.merge_files.execute import execute
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from magmax_jax.merge_files.stream import cut
from tests.merge_files.conftest import COUNTER, HALF, expected, merge, sources, tensors, write


@pytest.mark.parametrize(
    "name",
    ["max_magnitude", "min_magnitude", "average", "task_arithmetic", "ema", "random_mix", "dare",
     "breadcrumbs", "emr", "ties", "magnitude_prune", "model_stock", "consensus", "opcm",
     "negmerge", "scaled_last", "max_increment", "ema_magmax", "norm_matched"],
)  # fmt: skip
def test_it_writes_the_same_bits_as_the_library(models, tmp_path, name, monkeypatch):
    """In several chunks, much shorter than the largest tensor."""
    monkeypatch.setattr(chunk_sizes, "LARGEST", 1 << 14)
    assert merge(*sources(models), "--rule", name, "--seed", 3, "--output", tmp_path / "out") == 0
    content = expected([1, 2, 3], mm.rules.named(name, 3))
    content[COUNTER] = tensors(0)[COUNTER]
    found = load_file(tmp_path / "out" / "model.safetensors")
    # Compiled in pieces, additions may fuse with other multiplications: at most the last bit.
    exact = name in ("max_magnitude", "min_magnitude", "random_mix", "scaled_last")
    for key, value in content.items():
        tolerance = {} if exact else {"rtol": 1e-6 if key != HALF else 1e-2, "atol": 1e-6}
        compare = np.testing.assert_array_equal if exact else np.testing.assert_allclose
        compare(np.asarray(found[key], np.float32), np.asarray(value, np.float32), **tolerance)


def test_global_ties_uses_the_whole_task_vector(models, tmp_path):
    out = tmp_path / "out"
    assert (
        merge(*sources(models), "--rule", "ties", "--options", "density=0.05", "--output", out) == 0
    )
    kept = np.mean(load_file(out / "model.safetensors")["d"] != tensors(0)["d"])
    assert 0.05 < kept < 0.2
    per_tensor = ["--options", "density=0.05", "threshold=per_tensor", "majority=1"]
    assert merge(*sources(models), "--rule", "ties", *per_tensor, "--output", tmp_path / "b") == 0


def test_chunks_cover_every_entry_once_and_change_dtype_between_them(models):
    files = open_tensors(models[0])
    names = [name for name in files.tensors if name != COUNTER]
    seen = {name: np.zeros(files.tensors[name].size, int) for name in names}
    for pieces in cut(names, [files], 1 << 10):
        assert len({files.tensors[piece.name].dtype for piece in pieces}) == 1
        assert sum(piece.size for piece in pieces) <= 1 << 10
        for piece in pieces:
            seen[piece.name][piece.start : piece.start + piece.size] += 1
    assert all((count == 1).all() for count in seen.values())


def test_patterns_choose_what_is_merged(models, tmp_path):
    out = tmp_path / "out"
    flags = ["--include", "a.*", "d", "--exclude", "*.bias", "--scale", 1, "--rule", "average"]
    assert merge(*sources(models[:2]), *flags, "--output", out) == 0
    base, model = tensors(0), tensors(1)
    found = load_file(out / "model.safetensors")
    for name in base:
        wanted = model if name in ("a.weight", "d") else base
        np.testing.assert_allclose(found[name].astype(float), wanted[name].astype(float), atol=1e-6)


def test_the_output_has_theta_0s_companions_and_its_provenance(models, tmp_path):
    out = tmp_path / "out"
    (models[0] / "tokenizer.json").write_text("{}")
    (models[0] / "pytorch_model.bin").write_bytes(b"never copied")
    assert merge(*sources(models), "--out-dtype", "float16", "--output", out) == 0
    found = load_file(out / "model.safetensors")
    assert found["d"].dtype == np.float16 and found[COUNTER].dtype == np.int64
    assert json.loads((out / "config.json").read_text()) == {
        "model_type": "anything", "dtype": "float16",
    }  # fmt: skip
    names = sorted(p.name for p in out.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    card = (out / "README.md").read_text()
    assert all(f"`{model.name}`" in card for model in models) and "scale 0.5" in card
    assert str(tmp_path) not in card  # meant for publication
    taken = np.sqrt(sum(
        np.sum(np.square(np.asarray(tensors(1)[n], float) - np.asarray(tensors(0)[n], float)))
        for n in tensors(0) if n != COUNTER
    ))  # fmt: skip
    assert f"{taken:.4g}" in card


def test_large_models_are_written_in_shards(models, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert merge(*sources(models), "--output", whole) == 0
    names = tuple(map(str, models[1:]))
    execute(make_plan(Job(str(models[0]), names, shard_bytes=10_000)), out)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    content = {}
    for file in set(index["weight_map"].values()):
        content |= load_file(out / file)
    jax.tree.map(np.testing.assert_array_equal, content, load_file(whole / "model.safetensors"))


class TestRefusals:
    """One message, exit code 2, inputs untouched, nothing left behind."""

    def refused(self, capsys, tmp_path, *arguments) -> str:
        before = sorted(tmp_path.iterdir())
        assert merge(*arguments, "--output", tmp_path / "out") == 2
        assert sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err

    def test_every_difference_is_listed_at_once(self, models, tmp_path, capsys):
        odd = tensors(1)
        odd["a.weight"] = odd["a.weight"][:3]
        del odd["a.bias"]
        odd["new"] = odd["d"]
        odd["b.weight"] = odd["b.weight"].astype(np.int32)
        write(tmp_path / "odd", odd)
        flags = ["--pretrained", models[0], "--finetuned", tmp_path / "odd"]
        for dry in ([], ["--dry-run"]):
            error = self.refused(capsys, tmp_path, *flags, *dry)
            assert "4 problems" in error
            for words in (
                "a.weight has shape [3, 30]",
                "a.bias is missing",
                "new is not in theta_0",
                "b.weight is int32",
            ):
                assert words in error

    def test_a_truncated_file(self, models, tmp_path, capsys):
        file = models[1] / "model.safetensors"
        torn = file.read_bytes()[:-1]
        file.write_bytes(torn)
        error = self.refused(capsys, tmp_path, *sources(models))
        assert "its header describes" in error and str(file) in error
        assert error.count("\n") == 1
        assert file.read_bytes() == torn

    def test_lost_shards_pickles_and_missing_places(self, models, tmp_path, capsys):
        shard = models[3] / "model-00002-of-00003.safetensors"
        shard.rename(tmp_path / "lost")
        assert shard.name in self.refused(capsys, tmp_path, *sources(models))
        models = models[:3]
        pickled = tmp_path / "pickled"
        pickled.mkdir()
        (pickled / "pytorch_model.bin").write_bytes(b"boom")
        flags = ["--pretrained", models[0], "--finetuned"]
        assert "is a pickle" in self.refused(capsys, tmp_path, *flags, pickled)
        assert "no such directory" in self.refused(capsys, tmp_path, *flags, tmp_path / "none")
        assert "at least one" in self.refused(capsys, tmp_path, *flags)
        assert "--pretrained is missing" in self.refused(capsys, tmp_path, "--finetuned", models[1])
        assert "KEY=VALUE" in self.refused(capsys, tmp_path, *sources(models), "--options", "x")
        assert "matches no tensor" in self.refused(
            capsys, tmp_path, *sources(models), "--include", "nothing.*"
        )

    @pytest.mark.parametrize("rule", ["max_magnitude", "breadcrumbs"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_non_finite_tensors_are_named(self, models, tmp_path, capsys, rule, value):
        spoiled = tensors(2)
        spoiled["d"][1234] = value
        write(models[2], spoiled)
        error = self.refused(capsys, tmp_path, *sources(models), "--rule", rule)
        assert str(models[2]) in error and ": d " in error
        if rule == "max_magnitude":
            assert "entry 1234" in error

    def test_a_full_disk(self, models, tmp_path, capsys, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        for name in ("posix_fallocate", "pwrite"):
            with monkeypatch.context() as patch:
                patch.setattr(writer.os, name, full)
                flags = [*sources(models), "--state", tmp_path / "state"]
                assert "No space left" in self.refused(capsys, tmp_path, *flags)

    def test_an_interruption_leaves_no_output_that_looks_finished(
        self, models, tmp_path, monkeypatch
    ):
        real, written = os.pwrite, []

        def interrupted(*arguments):
            written.append(arguments)
            if len(written) == 3:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(writer.os, "pwrite", interrupted)
        before = sorted(tmp_path.iterdir())
        assert merge(*sources(models), "--state", tmp_path / "s", "--output", tmp_path / "o") == 130
        assert sorted(tmp_path.iterdir()) == before

    def test_an_existing_model_is_never_overwritten(self, models, tmp_path, capsys):
        assert merge(*sources(models), "--output", models[0]) == 2
        assert "already exists" in capsys.readouterr().err
        assert load_file(models[0] / "model.safetensors").keys() == tensors(0).keys()
