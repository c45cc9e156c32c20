"""What programs move, counted by hand against what is read; predictions; the benchmark's tables.

Devices are virtual: one child process has four.
"""

import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from benchmarks.collectives import Collective, collectives, summed
from benchmarks.cost_model import (
    ACCELERATORS,
    Accelerator,
    Assumptions,
    among,
    as_bfloat16,
    collective_seconds,
    compute_seconds,
    predict,
)
from benchmarks.meshes import TASKS
from benchmarks.scaling import main
from benchmarks.scaling_rows import Program, collective_rows, prediction_rows, timing_rows
from benchmarks.shapes import SIZES
from benchmarks.turns import ROOT, Contestant, environment
from benchmarks.workloads import CLASSES
from magmax_jax.planning import forward_flops

HEADER = "HloModule jit_f, is_scheduled=true, num_partitions=8\n"
ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}
"""
LOOPS = (
    HEADER + ADD + """
%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %v = f32[4]{0} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[4]{0} all-reduce(%v), replica_groups={}, to_apply=%add
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %all-reduce.1)
}

%below (p: (s32[], f32[4])) -> pred[] {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%outer (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  ROOT %while.1 = (s32[], /*index=1*/f32[4]{0}) while(%p), condition=%below, body=%inner
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %t = (s32[], f32[4]{0}) tuple(%z, %a)
  %while.2 = (s32[], f32[4]{0}) while(%t), condition=%below, body=%outer, """
    """backend_config={"known_trip_count":{"n":"5"}}
  ROOT %r = f32[4]{0} get-tuple-element(%while.2), index=1
}
"""
)


def entry(*lines: str) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"{HEADER}{ADD}\nENTRY %main () -> f32[] {{\n{body}\n}}\n"


def test_collectives_in_loops_count_for_as_often_as_these_run():
    """15 = 5, as the compiler notes, times 3, the condition's constant; among all 8 devices."""
    assert collectives(LOOPS) == [Collective("all-reduce", 16, 8, 15)]


def test_a_loop_that_runs_nobody_knows_how_often_is_refused_if_it_moves_anything():
    unknown = LOOPS.replace("constant(3)", "parameter(1)")
    with pytest.raises(ValueError, match="nobody knows how often"):
        collectives(unknown)
    assert collectives(unknown.replace("all-reduce(", "negate(")) == []


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{{0,1},{2,3}}", 2),
        ("{}", 8),
        ("[2,4]<=[8]", 4),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("mesh['a'=2,'b'=4] {'b'}", 4),
        ("mesh['a'=2,'b'=4] {'a','b'}", 8),
        ("mesh['a'=1,'b'=2,'c'=4], device_ids=([2,4]T(1,0)) {'b'}", 2),
        ("mesh['a'=8] {'a':(1)4}", 4),
    ],
)
def test_groups_are_read_however_they_are_written(groups, expected):
    line = f"ROOT %r = f32[] all-reduce(%a), channel_id=1, replica_groups={groups}, to_apply=%add"
    assert [one.group for one in collectives(entry(line))] == [expected]


@pytest.mark.parametrize(
    ("line", "kind", "nbytes"),
    [
        ("(f32[2,3]{1,0:T(8,128)}, /*index=1*/bf16[5]{0}) all-reduce(%a, %b)", "all-reduce", 34),
        ("(f32[2]{0}, f32[3]{0}) all-reduce-start(%a, %b)", "all-reduce", 20),
        ("(f32[2]{0}, f32[16]{0}) all-gather-start(%a)", "all-gather", 64),
        ("((f32[2]{0}, s8[1]{0}), (f32[16]{0}, s8[8]{0})) all-gather-start(%a, %b)",
         "all-gather", 72),
        ("f32[16]{0} all-gather(%a)", "all-gather", 64),
        ("bf16[2]{0} reduce-scatter(%a)", "reduce-scatter", 32),
        ("(u32[4]{0}, u32[4]{0}, u32[], u32[]) collective-permute-start(%a)",
         "collective-permute", 16),
        ("(pred[4]{0}, pred[4]{0}) all-to-all(%a, %b)", "all-to-all", 8),
    ],
)  # fmt: skip
def test_bytes_are_those_of_the_whole(line, kind, nbytes):
    done = f"%d = f32[2]{{0}} {kind}-done(%c)"
    [one] = collectives(entry(f"%c = {line}, replica_groups=[1,8]<=[8]", done))
    assert (one.kind, one.nbytes, one.group, one.times) == (kind, nbytes, 8, 1)


def test_what_runs_beside_other_things_counts_once():
    """An asynchronous call, whose end names the computation too; a TPU's gather in pieces of one
    channel, and its reduce-scatter."""
    text = (
        HEADER
        + ADD
        + textwrap.dedent("""
        %scatter (a: f32[16]) -> f32[2] {
          %a = f32[16]{0} parameter(0)
          ROOT %rs = f32[2]{0} reduce-scatter(%a), channel_id=1, replica_groups={}, to_apply=%add
        }

        %piece.1 (a: f32[2]) -> f32[16] {
          ROOT %ag.1 = f32[16]{0} all-gather(%a), channel_id=2, replica_groups={}
        }

        %piece.2 (a: f32[2]) -> f32[16] {
          ROOT %ag.2 = f32[16]{0} all-gather(%a), channel_id=2, replica_groups={}
        }

        %all-reduce-scatter.7 (a: f32[16]) -> f32[2] {
          %ar = f32[16]{0} all-reduce(%a), channel_id=3, replica_groups={}, to_apply=%add
          ROOT %slice = f32[2]{0} dynamic-slice(%ar, %i)
        }

        ENTRY %main () -> f32[] {
          %s = ((f32[16]{0}), f32[2]{0}) async-start(%p), calls=%scatter
          %d = f32[2]{0} async-done(%s), calls=%scatter
          %f.1 = f32[16]{0} fusion(%d), kind=kCustom, calls=%piece.1
          %f.2 = f32[16]{0} fusion(%d), kind=kCustom, calls=%piece.2
          ROOT %f.3 = f32[2]{0} fusion(%f.2), calls=%all-reduce-scatter.7, metadata={op_name="g"}
        }
    """)
    )
    assert collectives(text) == [
        Collective("reduce-scatter", 64, 8, 1),
        Collective("all-gather", 64, 8, 1),
        Collective("reduce-scatter", 64, 8, 1, "g"),
    ]


def test_rings_send_what_they_must():
    sent = {kind: Collective(kind, 800, 8, 1).wire for kind in ("all-reduce", "all-gather")}
    assert sent == {"all-reduce": 1400, "all-gather": 700}
    twice = [Collective("all-reduce", 800, 8, 2), Collective("all-reduce", 8, 8, 1)]
    assert summed(twice) == [("all-reduce", 8, 3, 1608, 2814)]


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Directory of evaluation steps as they are divided among devices, before all else is done."""
    return tmp_path_factory.mktemp("dump")


@pytest.fixture(scope="module")
def read(dump):
    """Collectives of programs of the tiny model on up to four devices, by name, data and fsdp."""
    program = """
        import json
        from benchmarks.meshes import read_programs

        tiny = {"size": "tiny", "dtype": "float32", "batch_size": 2}
        asked = {
            (2, 1): ["training"], (2, 2): ["training", "evaluation"], (1, 2): ["fold"],
        }
        for (data, fsdp), names in asked.items():
            mesh = {"data": data, "fsdp": fsdp}
            found = read_programs(mesh, [tiny | {"name": name} for name in names])
            print(json.dumps(mesh | {"programs": found}))
        parts = tiny | {"name": "training", "accumulate": 2}
        [found] = read_programs({"data": 2, "fsdp": 1}, [parts])
        found["name"] = "parts"
        print(json.dumps({"data": 2, "fsdp": 1, "programs": [found]}))
        half = tiny | {"name": "evaluation", "dtype": "bfloat16"}
        found = read_programs({"data": 1, "fsdp": 4}, [half])
        print(json.dumps({"data": 1, "fsdp": 4, "programs": found}))
    """
    flags = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=4 --xla_dump_to={dump} "
        "--xla_dump_hlo_pass_re=spmd-partitioning --xla_dump_hlo_module_re=.*eval_step.*",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of arithmetic: it compiles faster
    }
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, cwd=ROOT, env=environment(**flags),
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    return {
        (program["name"], mesh["data"], mesh["fsdp"]): [
            Collective(**one) for one in program["collectives"]
        ]
        for mesh in map(json.loads, shown.stdout.splitlines())
        for program in mesh["programs"]
    }


TINY = SIZES["tiny"].model.vision
MATRICES = TINY.layers * 12 * TINY.width**2
"""Entries of the blocks' matrices: (d, 3 d), (d, d), (d, 4 d) and (4 d, d)."""
PARAMETERS = (
    MATRICES
    + TINY.layers * 13 * TINY.width  # biases 3 d, d, 4 d, d and two norms of 2 d
    + 3 * TINY.patch_size**2 * TINY.width
    + TINY.width * (1 + TINY.grid**2 + 1 + 4)  # class token, positions, two norms
    + TINY.width * SIZES["tiny"].model.projection
)
GRADIENTS = 4 * PARAMETERS + 8
"""With the number of samples and the loss."""


def moved(found: list[Collective]) -> dict:
    return {(one.kind, one.group): one.nbytes for one in summed(found)}


def test_data_parallel_steps_reduce_every_gradient_once_and_nothing_else(read):
    assert moved(read["training", 2, 1]) == {("all-reduce", 2): GRADIENTS}


def test_a_batch_in_parts_reduces_its_gradients_for_each_part(read):
    whole, parts = (moved(read[name, 2, 1])["all-reduce", 2] for name in ("training", "parts"))
    assert 1.9 * whole < parts < 2.1 * whole


def test_pieces_of_blocks_are_gathered_once_forward_and_once_backward(read):
    found = read["training", 2, 2]
    gathers = [one for one in found if one.kind == "all-gather"]
    for phase in ("forward", "backward"):
        nbytes = sum(one.times * one.nbytes for one in gathers if one.phase == phase)
        assert nbytes == 4 * MATRICES
    sums = moved(found)
    assert sums["all-gather", 2] == 8 * MATRICES
    kinds = {kind for kind, _ in sums}
    assert kinds <= {"all-gather", "all-reduce", "reduce-scatter"}
    reduced = sum(nbytes for (kind, n), nbytes in sums.items() if kind != "all-gather" and n == 4)
    assert reduced == GRADIENTS
    scalars = sum(nbytes for (kind, n), nbytes in sums.items() if kind == "all-reduce" and n == 2)
    assert scalars < 1000  # norms of what is in pieces


def test_evaluation_reduces_its_counts_and_a_fold_nothing(read):
    counts = 4 * (5 * TASKS * CLASSES + CLASSES**2)
    assert moved(read["evaluation", 2, 2]) == {
        ("all-reduce", 4): counts,
        ("all-gather", 2): 4 * MATRICES,
    }
    assert read["fold", 1, 2] == []


def test_pieces_move_in_the_computations_dtype(read, dump):
    """As the program is divided; a CPU's compiler widens them again."""
    texts = [path.read_text() for path in dump.glob("*after_spmd-partitioning*.txt")]
    [text] = [text for text in texts if "num_partitions=4" in text and "bf16[" in text]
    gathers = [line.split(" = ")[1] for line in text.splitlines() if " all-gather(" in line]
    assert len(gathers) == 4
    assert all(line.startswith("bf16[") for line in gathers)


MADE_UP = Accelerator("made up", 1e12, 1e9, node=4, near=1e9, far=1e8)
PLAIN = Assumptions(mfu=1, reached=1, latency=0)


def test_rings_within_nodes_and_between_them():
    """8 devices in two nodes of 4: 3/4 of the bytes within, 1/2 of a quarter between, twice."""
    seconds = collective_seconds(Collective("all-reduce", 10**9, 8, 1), MADE_UP, PLAIN)
    assert seconds == pytest.approx(2 * 0.75 * 1.0 + 2 * 0.5 * 0.25e9 / 1e8)
    gather = collective_seconds(Collective("all-gather", 10**9, 4, 1), MADE_UP, PLAIN)
    assert gather == pytest.approx(0.75)
    late = replace(PLAIN, latency=1e-3)
    assert collective_seconds(Collective("all-gather", 0, 8, 1), MADE_UP, late) == 3e-3
    assert collective_seconds(Collective("all-reduce", 10**9, 1, 1), MADE_UP, late) == 0
    with pytest.raises(ValueError, match="4 devices are more than 2"):
        alone = replace(MADE_UP, node=2, far=None)
        collective_seconds(Collective("all-reduce", 10**9, 4, 1), alone, PLAIN)


def test_a_torus_that_is_cut_has_half_the_links():
    v5e = ACCELERATORS[1]
    part, whole = (
        collective_seconds(Collective("all-gather", 10**9, n, 1), v5e, PLAIN) * n / (n - 1)
        for n in (64, 256)
    )
    assert part == pytest.approx(2 * whole)


def test_predictions_hide_the_blocks_collectives_as_far_as_their_pass_takes():
    config = SIZES["tiny"].model
    compute = compute_seconds(config, 32, MADE_UP, PLAIN)
    assert compute == 3 * forward_flops(config) * 32 / 1e12
    size = round(compute * 1e9)  # a gather among 2 of so many bytes takes half the computation
    backward = "transpose(jvp())"
    found = [
        Collective("all-gather", size, 2, 2, backward),  # as long as the step: a third of it waits
        Collective("all-gather", size, 2, 1, backward),  # waits whole
    ]
    made = predict(config, 32, 1000, found, MADE_UP, PLAIN)
    assert made.communication == pytest.approx(1.5 * compute, rel=1e-4)
    assert made.exposed == pytest.approx((1 / 3 + 1 / 2) * compute, rel=1e-4)
    assert made.efficiency == pytest.approx((1 / 2.5, 1 / (1 + 5 / 6)), rel=1e-4)
    assert made.fits
    assert not predict(config, 32, 10**8, found, MADE_UP, PLAIN).fits
    assert predict(config, 32, 10**8, found, MADE_UP, PLAIN, pieces=8).fits


def test_groups_and_widths_are_those_of_what_is_predicted():
    found = [
        Collective("all-reduce", 800, 8, 2, "transpose(jvp())"),
        Collective("all-reduce", 4, 8, 1, "jvp()"),
        Collective("all-gather", 80, 8, 1, "jvp()"),
    ]
    assert [one.nbytes for one in as_bfloat16(found)] == [400, 4, 40]
    assert {one.group for one in among(found, 64)} == {64}


def timed(data: int, seconds: list[float], failure: str | None = None) -> Contestant:
    settings = {"data": data, "fsdp": 1, "batch_size": 4}
    facts = {"device": "cpu", "platform": "cpu"}
    return Contestant(f"{data} x 1", [], settings, None, facts, seconds, failure)


def test_efficiency_is_told_of_devices_and_of_the_cores_they_share():
    rows = timing_rows([timed(1, [0.1, 0.1, 9.0]), timed(2, [0.25]), timed(4, [], "too many")])
    assert rows == [
        ["1 x 1", "1", "100.0", "40.0", "1.00", "1.00"],
        ["2 x 1", "2", "250.0", "32.0", "0.40", "0.80"],
        ["4 x 1", "4", "", "", "", "too many"],
    ]


def test_predictions_prefer_the_accelerators_own_program():
    cpu, tpu = (
        Program("vit-b16", "training", compiler, (8, 1), (Collective("all-reduce", nbytes, 8, 1),))
        for compiler, nbytes in (("cpu", 0), ("TPU v5 lite", 10**12))
    )
    assert collective_rows([cpu])[0][:5] == ["training, vit-b16", "cpu", "8 x 1", "1", "8"]
    for accelerator in ACCELERATORS:
        [row] = prediction_rows(accelerator, [tpu, cpu], [8], [32], Assumptions())
        slow = accelerator.name == "TPU v5e"
        assert (float(row[4]) > 1000) == slow
        assert math.isclose(float(row[3]), 1e3 * compute_seconds(
            SIZES["vit-b16"].model, 32, accelerator, Assumptions()), abs_tol=0.1)  # fmt: skip


def test_it_tells_what_it_measured_read_and_predicted(tmp_path, monkeypatch):
    found = (Collective("all-reduce", 344_000_000, 8, 1, "transpose(jvp())"),)
    made = [Program("vit-b16", "training", "cpu", (8, 1), found)]
    monkeypatch.setattr("benchmarks.scaling.programs", lambda settings, output: made)
    output = tmp_path / "scaling.md"
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # it compiles faster
    flags = ["--size", "tiny", "--mesh", "1x2", "--repeats", "2", "--batch-size", "1", "--cpu"]
    assert main([*flags, "--output", str(output)]) == 0
    text = output.read_text()
    for start in ("1 x 1 ", "1 x 2 ", "training, vit-b16", "vit-b16, 128 images"):
        assert f"| {start}" in text
    assert text.count("predicted, not measured") == len(ACCELERATORS)
    rows = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    assert len(seconds) == 4 and min(seconds) > 0


def test_a_mesh_that_is_none_is_refused(capsys):
    assert main(["--mesh", "2"]) == 2
    assert "'2' is not DATAxFSDP, as 2x4" in capsys.readouterr().err
