"""Bytes that the product's programs move over a mesh: parsed, against counts by hand.

Devices are virtual: a child process has four.
"""

import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.collectives import Collective, summed
from benchmarks.contenders import ROOT, environment
from benchmarks.ours import meshes
from benchmarks.virtual_devices import virtual_devices
from benchmarks.workloads import SIZES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Directory for dumps of evaluation steps, taken just after partitioning."""
    return tmp_path_factory.mktemp("dump")


@pytest.fixture(scope="module")
def read(dump):
    """Collectives of the tiny model's programs on up to four devices, by name, data and fsdp."""
    program = """
        import json
        from benchmarks.ours.meshes import read_programs

        tiny = {"size": "tiny", "dtype": "float32", "batch_size": 2}
        parts = {"name": "training", "accumulate": 2}
        half = {"name": "evaluation", "dtype": "bfloat16"}
        asked = {
            (2, 1): [{"name": "training"}, parts],
            (2, 2): [{"name": "training"}, {"name": "evaluation"}],
            (1, 2): [{"name": "fold"}],
            (1, 4): [half],
        }
        for (data, fsdp), programs in asked.items():
            for program in read_programs(data, fsdp, [tiny | one for one in programs]):
                print(json.dumps({"data": data, "fsdp": fsdp} | program))
    """
    dumped = "--xla_dump_hlo_pass_re=spmd-partitioning --xla_dump_hlo_module_re=.*eval_step.*"
    variables = virtual_devices(4, f"--xla_dump_to={dump}", dumped) | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of arithmetic; compiles faster
    }
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, cwd=ROOT, env=environment(**variables),
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    found = {}
    for one in map(json.loads, shown.stdout.splitlines()):
        name = "parts" if "accumulate" in one else one["name"]
        moved = [Collective(**each) for each in one["collectives"]]
        found[name, one["data"], one["fsdp"]] = moved
    return found


TINY = SIZES["tiny"].vision
MATRICES = TINY.layers * 12 * TINY.width**2
"""Entries of the blocks' matrices: (d, 3 d), (d, d), (d, 4 d) and (4 d, d)."""
PARAMETERS = (
    MATRICES
    + TINY.layers * 13 * TINY.width  # biases 3 d, d, 4 d, d and two norms of 2 d
    + 3 * TINY.patch_size**2 * TINY.width
    + TINY.width * (1 + TINY.grid**2 + 1 + 4)  # class token, positions, two norms
    + TINY.width * SIZES["tiny"].projection
)
GRADIENTS = 4 * PARAMETERS + 8
"""Including the number of samples and the loss."""


def moved(found: list[Collective]) -> dict:
    return {(one.kind, one.group): one.nbytes for one in summed(found)}


def test_data_parallel_steps_reduce_every_gradient_once_and_nothing_else(read):
    assert moved(read["training", 2, 1]) == {("all-reduce", 2): GRADIENTS}


def test_a_batch_in_parts_reduces_gradients_once_per_part(read):
    whole, parts = (moved(read[name, 2, 1])["all-reduce", 2] for name in ("training", "parts"))
    assert 1.9 * whole < parts < 2.1 * whole


def test_sharded_blocks_are_gathered_once_forward_and_once_backward(read):
    found = read["training", 2, 2]
    gathers = [one for one in found if one.kind == "all-gather"]
    for backward in (True, False):
        part = [one for one in gathers if ("transpose(" in one.where) == backward]
        assert sum(one.times * one.nbytes for one in part) == 4 * MATRICES
    sums = moved(found)
    assert sums["all-gather", 2] == 8 * MATRICES
    kinds = {kind for kind, _ in sums}
    assert kinds <= {"all-gather", "all-reduce", "reduce-scatter"}
    reduced = sum(nbytes for (kind, n), nbytes in sums.items() if kind != "all-gather" and n == 4)
    assert reduced == GRADIENTS
    scalars = sum(nbytes for (kind, n), nbytes in sums.items() if kind == "all-reduce" and n == 2)
    assert scalars < 1000  # norms of sharded arrays


def test_evaluation_gathers_its_predictions_and_a_fold_nothing(read):
    images = 2 * 4
    assert moved(read["evaluation", 2, 2]) == {
        ("all-gather", 4): 4 * 4 * images,  # four numbers each
        ("all-gather", 2): 4 * MATRICES,
    }
    assert read["fold", 1, 2] == []


def test_shards_move_in_the_computation_dtype(read, dump):
    """Read just after partitioning; a CPU's compiler later widens them again."""
    texts = [path.read_text() for path in dump.glob("*after_spmd-partitioning*.txt")]
    [text] = [text for text in texts if "num_partitions=4" in text and "bf16[" in text]
    gathers = [line.split(" = ")[1] for line in text.splitlines() if " all-gather(" in line]
    predictions = [line for line in gathers if line.startswith("s32[")]
    assert len(gathers) == 4 + len(predictions) == 5
    assert all(line.startswith("bf16[") for line in gathers if line not in predictions)


def test_programs_for_absent_devices_are_traced_as_on_those_devices(monkeypatch):
    chip, seen = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite"), []
    layout = SimpleNamespace(mesh=SimpleNamespace(devices=np.array([[chip]], object)))

    def trace(asked, layout):
        seen.append(jax.default_backend())
        return jax.jit(lambda x: -x).lower(1.0).compile().as_text()

    monkeypatch.setattr(meshes, "mesh_layout", lambda data, fsdp, topology: layout)
    monkeypatch.setitem(meshes.PROGRAMS, "trace", trace)
    (found_program,) = meshes.read_programs(1, 1, [{"name": "trace", "batch_size": 1}], "v5e:2x4")
    assert seen == ["tpu"] != [jax.default_backend()]
    assert found_program["compiler"] == "TPU v5 lite"
