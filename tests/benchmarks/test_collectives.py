"""Bytes that a program's text moves: parsed, against counts by hand."""

import textwrap

import pytest

from benchmarks.collectives import Collective, collectives, summed

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


def test_collectives_in_loops_count_once_per_iteration():
    """15 = 5 (noted by the compiler) times 3 (the condition's constant); among all 8 devices."""
    assert collectives(LOOPS) == [Collective("all-reduce", 16, 8, 15)]


def test_a_loop_of_unknown_trip_count_is_refused_if_it_moves_anything():
    unknown = LOOPS.replace("constant(3)", "parameter(1)")
    with pytest.raises(ValueError, match="unknown number of iterations"):
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
def test_bytes_count_the_whole_array(line, kind, nbytes):
    done = f"%d = f32[2]{{0}} {kind}-done(%c)"
    [one] = collectives(entry(f"%c = {line}, replica_groups=[1,8]<=[8]", done))
    assert (one.kind, one.nbytes, one.group, one.times) == (kind, nbytes, 8, 1)


def test_asynchronous_and_fused_collectives_count_once():
    """An asynchronous call, whose end also names the computation; a TPU's gather in pieces on one
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


def test_rings_send_the_minimum():
    sent = {kind: Collective(kind, 800, 8, 1).wire for kind in ("all-reduce", "all-gather")}
    assert sent == {"all-reduce": 1400, "all-gather": 700}
    twice = [Collective("all-reduce", 800, 8, 2), Collective("all-reduce", 8, 8, 1)]
    assert summed(twice) == [("all-reduce", 8, 3, 1608, 2814)]
