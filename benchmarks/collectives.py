"""What a compiled program moves between devices: its collectives, parsed from its HLO text.

The text comes from `jax.stages.Compiled.as_text()` or from a file that `--xla_dump_to` wrote.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
)  # fmt: skip

_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) (?:\(.*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")


@dataclass(frozen=True)
class Collective:
    """One instruction that moves data between devices, and how often a run executes it.

    Attributes:
      kind: one of `KINDS`.
      nbytes: size of the whole that is reduced, gathered, scattered or exchanged.
      group: number of devices that take part together.
      times: how often a run executes it.
      where: JAX's name of the operation that it comes from, or that calls it.
    """

    kind: str
    nbytes: int
    group: int
    times: int
    where: str = ""

    @property
    def wire(self) -> float:
        """Bytes that each device sends, and receives, in one execution over a ring of `group`.

        2 (n - 1) / n B     all-reduce: a reduce-scatter, then an all-gather
        (n - 1) / n B       all-gather, reduce-scatter, all-to-all
        B                   those from one device to another
        """
        if self.kind.startswith("collective"):
            return self.nbytes
        passes = 2 if self.kind == "all-reduce" else 1
        return passes * (self.group - 1) / self.group * self.nbytes


class Sum(NamedTuple):
    """Totals of all collectives of one kind and group in a run of the program."""

    kind: str
    group: int
    times: int
    nbytes: int
    wire: float


def summed(found: Iterable[Collective]) -> list[Sum]:
    """Totals by kind and group, most bytes first."""
    sums: dict[tuple[str, int], Sum] = {}
    for one in found:
        kind, group = key = one.kind, one.group
        *_, times, nbytes, wire = sums.get(key, Sum(kind, group, 0, 0, 0.0))
        nbytes, wire = nbytes + one.times * one.nbytes, wire + one.times * one.wire
        sums[key] = Sum(kind, group, times + one.times, nbytes, wire)
    return sorted(sums.values(), key=lambda one: -one.nbytes)


class _Instruction(NamedTuple):
    """A parsed instruction; `rest` is the text from the operands on."""

    name: str
    shape: str
    opcode: str
    rest: str

    @property
    def where(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


def collectives(text: str) -> list[Collective]:
    """Every collective that a run executes, in no particular order.

    One in a loop counts as often as the loop runs. The trip count is noted by the compiler, or read
    from the loop's condition, which is assumed to count from 0 in steps of 1. All branches of a
    conditional count. TPU programs show a gather once for each computation that overlaps it, on one
    channel; it counts once. They show a reduce-scatter as an all-reduce in a computation named
    all-reduce-scatter.

    Raises:
      ValueError: a collective's count, size or group size cannot be read.
    """
    computations, entry = _computations(text)
    header = text.partition("\n")[0]
    devices = math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)))
    found = {}

    def walk(name: str, times: int | None, where: str) -> None:
        for place, one in enumerate(computations[name]):
            kind = one.opcode.removesuffix("-start")
            if kind in KINDS:
                if times is None:
                    raise ValueError(
                        f"{one.name} is in a loop with an unknown number of iterations"
                    )
                collective = _collective(kind, one, times, devices, where)
                if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                    collective = replace(collective, kind="reduce-scatter")
                channel = re.search(r"channel_id=(\d+)", one.rest)
                key = (channel[1], collective) if channel else (name, place, len(found))
                found[key] = collective
            elif not one.opcode.endswith(("-done", "-update")):
                runs = _trips(one, computations) if one.opcode == "while" else 1
                inner = None if runs is None or times is None else times * runs
                for names in _CALLED.findall(one.rest):
                    for called in names.strip("{}").split(","):
                        walk(called.strip().removeprefix("%"), inner, one.where or where)

    walk(entry, 1, "")
    return list(found.values())


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions by computation, and the name of the entry computation."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            # `(f32[2]{0}, s32[]) while(...)`: the shape ends at the first space outside brackets.
            shape, after = _split(match["rest"], " ")
            if opcode := re.match(r"[\w\-]+(?=\()", after):
                current.append(_Instruction(match["name"], shape, opcode[0], after[opcode.end() :]))
    if entry is None:
        raise ValueError("this is not the text of an HLO module: it has no ENTRY")
    return computations, entry


def _split(text: str, separator: str) -> tuple[str, str]:
    """The text before and after the first separator outside brackets."""
    depth = 0
    for place, letter in enumerate(text):
        if letter == separator and depth == 0:
            return text[:place], text[place + 1 :]
        depth += (letter in "({[") - (letter in ")}]")
    return text, ""


def _trips(loop: _Instruction, computations: dict[str, list[_Instruction]]) -> int | None:
    """How often a loop runs; None if that depends on data."""
    if noted := re.search(r"known_trip_count\W+n\W+(\d+)", loop.rest):
        return int(noted[1])
    condition = computations[re.search(r"condition=%?([\w.\-]+)", loop.rest)[1]]
    compared = [one for one in condition if one.opcode == "compare"]
    limits = [re.match(r"\((\d+)\)", one.rest) for one in condition if one.opcode == "constant"]
    if len(compared) == len(limits) == 1 and limits[0] and "direction=LT" in compared[0].rest:
        return int(limits[0][1])
    return None


def _collective(kind: str, one: _Instruction, times: int, devices: int, where: str) -> Collective:
    shape = one.shape
    if one.opcode.endswith("-start") and kind != "all-reduce":  # (operands, results, ...)
        shape, _ = _split(_split(shape[1:-1], ",")[1], ",")
    group = devices if kind.startswith("collective") else _group(one, devices)
    nbytes = _nbytes(shape) * (group if kind == "reduce-scatter" else 1)
    return Collective(kind, nbytes, group, times, one.where or where)


def _group(one: _Instruction, devices: int) -> int:
    """Number of devices in a group: replica_groups is a list of lists, an iota, or mesh axes."""
    groups = re.search(r"replica_groups=(.*)", one.rest)
    text = groups[1] if groups else "{}"
    if text.startswith("{}"):
        return devices
    if listed := re.match(r"\{\{([\d,]+)\}", text):
        return len(listed[1].split(","))
    if iota := re.match(r"\[\d+,(\d+)\]<=", text):
        return int(iota[1])
    mesh = re.match(r"mesh\[([^\]]*)\](?:, device_ids=\(.*?\)\))? \{([^}]*)\}", text)
    if mesh is None:
        raise ValueError(f"{one.name}: cannot read {text[:80]}")
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
    axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])  # a split axis states its size
    return math.prod(int(part or sizes[name]) for name, part in axes)


def _nbytes(shape: str) -> int:
    """Bytes of all arrays in a shape."""
    total = 0
    for dtype, sizes in re.findall(r"([a-z]\w*)\[([\d,<=]*)\]", shape):
        bits = re.match(r"[a-z]+(\d+)", dtype)
        bits = int(bits[1]) if bits else {"pred": 8, "token": 0, "opaque": 0}[dtype]
        entries = math.prod(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        total += -(-bits * entries // 8)
    return total
