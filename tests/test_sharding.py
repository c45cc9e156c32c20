"""One run on one device, on eight, and on two processes with four each; runs `layouts.py`."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from benchmarks.virtual_devices import virtual_devices
from magmax_jax.config import ExperimentConfig, MeshConfig, TrainConfig
from magmax_jax.errors import UserError
from magmax_jax.merging import rules, task_vector
from magmax_jax.models import CLIP
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.export import export
from magmax_jax.sharding import Layout, build_layout, mesh_shape, one_device

REFITTED = "ema+lda@0.7"
ALONE, LAYOUTS = "1x1x1", ["8x1x1", "2x4x2", "4x2x1"]
"""data x fsdp x parts of a batch; the last layout uses two processes."""


@pytest.fixture(scope="module")
def runs(tiny_clip, tmp_path_factory):
    """A directory of runs by layout, the output of each process, and what was compiled."""
    out = tmp_path_factory.mktemp("layouts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    several = ["--distributed", "--coordinator", address, "--processes", "2", "--process"]

    def start(devices: int, *arguments: str, **environment: str) -> subprocess.Popen:
        dump = f"--xla_dump_to={out / 'dump'} --xla_dump_hlo_module_re=.*train_step.*"
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.helpers.layouts", str(tiny_clip), str(out)),
                *(*arguments, "--merges", "max_magnitude", REFITTED),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ
            | virtual_devices(devices, dump)
            | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
            | environment,
        )

    cached = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    processes = [
        start(8, ALONE, "8x1x1", "2x4x2", "--cache", str(out / "cache"), **cached),
        start(4, "4x2x1", *several, "0"),
        start(4, "4x2x1", *several, "1"),
    ]
    shown = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        shown.append(json.loads(stdout.splitlines()[-1]))  # Gloo also prints to stdout
    return out, shown


def losses(runs, layout: str) -> np.ndarray:
    _, (one_process, first, _) = runs
    return np.array((one_process | first)[layout]["losses"])


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_match_one_device(runs, layout):
    expected = losses(runs, ALONE)
    assert len(expected) == 20 and len(set(expected)) == 20
    np.testing.assert_allclose(losses(runs, layout), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_accuracies_match_one_device(runs, layout):
    out, _ = runs
    expected = (out / ALONE / "results.jsonl").read_text()
    assert expected.count('"group": "all"') == 2 * (1 + 2 * 3)
    assert (out / layout / "results.jsonl").read_text() == expected


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoints_of_all_devices_open_on_one_and_merge_to_the_same_model(
    runs, layout, tiny_clip
):
    theta_0 = nnx.state(CLIP.from_pretrained(tiny_clip).vision)
    rule = rules.max_magnitude()
    states = {"max_magnitude": rule.init(theta_0), "ema": rules.ema().init(theta_0)}
    like = {"finetuned": theta_0, "merges": states}

    def taus(layout: str) -> list[np.ndarray]:
        """The last task's vector and the merged one."""
        with Checkpoints(runs[0] / layout / "checkpoints") as checkpoints:
            _, note, state = checkpoints.restore(lambda note: like)
        assert note["learned"] == 2
        tau = rule.finalize(state["merges"]["max_magnitude"])
        return [flat(task_vector(state["finetuned"], theta_0)), flat(tau)]

    for expected, found in zip(taus(ALONE), taus(layout), strict=True):
        # Adam divides each gradient by its own size, so rounding decides where it is almost zero.
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)
        assert np.mean(np.abs(found - expected) < 2e-6) > 0.99


@pytest.mark.slow
def test_a_run_on_all_devices_is_exported_on_one(runs, tmp_path):
    for model in ("finetuned", "max_magnitude"):
        found = []
        for layout in (ALONE, "2x4x2"):
            export(runs[0] / layout, model, tmp_path / layout / model)
            found.append(flat(nnx.state(CLIP.from_pretrained(tmp_path / layout / model).vision)))
        assert np.mean(np.abs(found[0] - found[1]) < 2e-6) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_last_map_is_fitted_equally_on_every_layout(runs, layout, tmp_path):
    """Also by each of several processes, which see only a part of every batch."""
    found = []
    for each in (ALONE, layout):
        export(runs[0] / each, REFITTED, tmp_path / each)
        found.append(CLIP.from_pretrained(tmp_path / each).vision)
    one, several = (np.asarray(tower.projection.kernel[...]) for tower in found)
    assert np.linalg.norm(several - one) < 2e-2 * np.linalg.norm(one)


def flat(params: nnx.State) -> np.ndarray:
    """All entries except keys' biases: these change no output, so their gradient is rounding."""
    bias = params["blocks"]["attention"]["qkv"]["bias"]
    query, key, value = np.split(np.asarray(bias[...]), 3, axis=1)
    bias[...] = np.concatenate([query, 0 * key, value], axis=1)
    return np.asarray(jax.flatten_util.ravel_pytree(params)[0])


@pytest.mark.slow
def test_only_one_process_writes_and_prints(runs):
    out, (_, first, second) = runs
    assert first["4x2x1"]["said"] > 0
    assert second["4x2x1"]["said"] == 0 and second["4x2x1"]["losses"] == []
    written = sorted(path.name for path in (out / "4x2x1").iterdir())
    assert written == [
        "about.json", "checkpoints", "config.json", "counts", "head.safetensors",
        "metrics.jsonl", "results.jsonl",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_layout_compiles_each_step_once(runs):
    for process in runs[1]:
        for layout, shown in process.items():
            assert shown["compiled"] == {"train_step": 1, "eval_step": 1}, layout


@pytest.mark.slow
def test_sharded_parameters_are_gathered_one_block_at_a_time(runs):
    """As compiled: shards move, images do not, and no device ever holds all blocks."""
    programs = [
        path.read_text() for path in (runs[0] / "dump").glob("*train_step*after_optimizations.txt")
    ]
    split = [text for text in programs if "f32[2,32,24]" in text]  # two blocks' (32, 96) over four
    assert len(split) == 1
    assert "all-gather" in split[0] and "f32[2,32,96]" not in split[0]
    assert any("f32[2,32,96]" in text for text in programs)
    for text in programs:
        assert "all-to-all(" not in text and "collective-permute(" not in text


@pytest.mark.slow
def test_on_every_layout_a_step_updates_its_state_in_place(runs, tiny_clip):
    """As compiled: parameters, Adam's two moments and counter, and the step."""
    tensors = len(jax.tree.leaves(nnx.state(CLIP.from_pretrained(tiny_clip).vision)))
    headers = [
        path.read_text().partition("\n")[0]
        for path in (runs[0] / "dump").glob("*train_step*after_optimizations.txt")
    ]
    assert len(headers) > len(LAYOUTS)
    assert {header.count("-alias)") for header in headers} == {3 * tensors + 2}


@pytest.mark.slow
def test_compiled_programs_are_reused(runs):
    out, _ = runs
    kept = [path.name for path in (out / "cache").iterdir() if path.name.endswith("-cache")]
    assert sum(name.startswith("jit_train_step-") for name in kept) == 3


def config(mesh: MeshConfig | None = None, accumulate: int = 1, **sizes) -> ExperimentConfig:
    train = TrainConfig(batch_size=sizes.pop("batch_size", 128), accumulate=accumulate)
    return ExperimentConfig(train=train, mesh=mesh or MeshConfig(), **sizes)


@pytest.mark.parametrize(
    ("mesh", "devices", "expected"),
    [
        (MeshConfig(), 1, (1, 1)),
        (MeshConfig(), 8, (8, 1)),
        (MeshConfig(fsdp=4), 8, (2, 4)),
        (MeshConfig(data=2, fsdp=2), 8, (2, 2)),
        (MeshConfig(data=1), 8, (1, 1)),
    ],
)
def test_the_mesh_takes_all_devices_or_the_given_number(mesh, devices, expected):
    assert mesh_shape(config(mesh), devices) == expected


@pytest.mark.parametrize(
    ("wrong", "devices", "processes", "message"),
    [
        (config(MeshConfig(fsdp=3)), 8, 1, "mesh.data 2 times mesh.fsdp 3 does not divide"),
        (config(MeshConfig(fsdp=16)), 8, 1, "which is 8: choose others"),
        (config(MeshConfig(data=16)), 8, 1, "does not divide the number of devices"),
        (config(MeshConfig(data=4)), 8, 2, "leaves out some of 8 devices, which 2 processes"),
        (config(batch_size=100), 8, 1, "train.batch_size is 100.*8 devices: use 96 or 104, or"),
        (config(batch_size=4), 8, 1, "train.batch_size is 4.*8 devices: use 8, or fewer devices"),
        (config(accumulate=32), 8, 1, "train.batch_size is 128.*8 devices in 32 parts: use 256"),
        (config(eval_batch_size=250), 8, 1, "eval_batch_size is 250.*use 248 or 256"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_ones_that_do(wrong, devices, processes, message):
    with pytest.raises(UserError, match=message):
        mesh_shape(wrong, devices, processes)


def test_matrices_that_do_not_divide_are_refused():
    layout = Layout(AbstractMesh((1, 5), ("data", "fsdp")))
    with pytest.raises(UserError, match=r"mesh.fsdp is 5, which divides no side .*6 and 8"):
        layout.params({"w": np.ones((5, 6, 8), np.float32)})


def test_on_one_device_everything_is_already_in_place():
    for layout in (one_device(), build_layout(config())):
        assert layout.is_first and layout.whole is None
        np.testing.assert_array_equal(layout.rows(6), np.arange(6))
        layout.meet("nothing")
        params = layout.params({"w": np.ones((2, 4, 6), np.float32)})
        assert layout.params(params)["w"] is params["w"]
        assert params["w"].sharding.spec == PartitionSpec(None, None, "fsdp")
        assert layout.replicate(np.int32(3)).sharding.is_fully_replicated


def test_numbers_of_python_become_arrays():
    """An own rule's state may count tasks with an int; a run saves and shards it as an array."""
    placed = one_device().params({"tasks": 0, "weight": 0.5, "done": False})
    assert {name: (leaf.dtype.name, leaf.shape) for name, leaf in placed.items()} == {
        "tasks": ("int32", ()),
        "weight": ("float32", ()),
        "done": ("bool", ()),
    }
    assert not any(leaf.weak_type for leaf in placed.values())
    assert (placed["tasks"], placed["weight"], placed["done"]) == (0, 0.5, False)
