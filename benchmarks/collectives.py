"""What a compiled program moves between devices: its collectives, from the text of its HLO.

The text is what `jax.stages.Compiled.as_text()` gives, or a file that `--xla_dump_to` wrote.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
)  # fmt: skip

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) (?:\(.*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_CALLED = re.compile(r"(body|condition|calls|to_apply|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")


@dataclass(frozen=True)
class Collective:
    """One instruction that moves data between devices, as often as a run of the program does it.

    Attributes:
      kind: one of `KINDS`.
      nbytes: of the whole: what is reduced, what is gathered, what is scattered or exchanged.
      group: devices that take part together.
      times: how often a run executes it.
      where: the operation that it comes from, as JAX names it, or that calls it; of combined ones,
        all.
    """

    kind: str
    nbytes: int
    group: int
    times: int
    where: str = ""

    @property
    def wire(self) -> float:
        """Bytes that each device sends, and receives, in one execution by a ring of `group`.

        2 (n - 1) / n B     all-reduce: a reduce-scatter, then an all-gather
        (n - 1) / n B       all-gather, reduce-scatter, all-to-all
        B                   those from one device to another
        """
        if self.kind == "all-reduce":
            return 2 * (self.group - 1) / self.group * self.nbytes
        if self.kind.startswith("collective"):
            return self.nbytes
        return (self.group - 1) / self.group * self.nbytes

    @property
    def phase(self) -> str:
        """Of a training step: "backward", "forward", or "update", which is all else."""
        if "transpose(" in self.where:
            return "backward"
        return "forward" if "jvp(" in self.where else "update"


class Sum(NamedTuple):
    """Of all collectives of one kind and group in a run of the program: executions, bytes."""

    kind: str
    group: int
    times: int
    nbytes: int
    wire: float


def summed(found: Iterable[Collective]) -> list[Sum]:
    """By kind and group, the most bytes first."""
    found = list(found)
    sums = []
    for kind, group in dict.fromkeys((one.kind, one.group) for one in found):
        same = [one for one in found if (one.kind, one.group) == (kind, group)]
        totals = (sum(one.times * size(one) for one in same) for size in _SIZES)
        sums.append(Sum(kind, group, sum(one.times for one in same), *totals))
    return sorted(sums, key=lambda one: -one.nbytes)


_SIZES = (lambda one: one.nbytes, lambda one: one.wire)


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    rest: str
    """From the operands on."""


def collectives(text: str) -> list[Collective]:
    """Every collective that a run executes, in no particular order.

    A loop's count for as often as it runs, which the compiler notes, or its condition says, which
    is taken to count from 0 by ones. Of a conditional, all branches count. TPUs' programs show a
    gather once for each computation that runs beside it, by one channel, which counts once, and a
    reduce-scatter as an all-reduce in a computation named for what it is.

    Raises:
      ValueError: how often one is executed, how large it is, or among how many, cannot be read.
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
                    raise ValueError(f"{one.name} is in a loop that runs nobody knows how often")
                collective = _collective(kind, one, times, devices, where)
                if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                    collective = replace(collective, kind="reduce-scatter")
                channel = re.search(r"channel_id=(\d+)", one.rest)
                key = (channel[1], collective) if channel else (name, place, len(found))
                found[key] = collective
            elif not one.opcode.endswith(("-done", "-update")):
                inner = times
                if one.opcode == "while":
                    runs = _trips(one, computations)
                    inner = None if runs is None or times is None else times * runs
                for called in _called(one.rest):
                    walk(called, inner, _where(one) or where)

    walk(entry, 1, "")
    return list(found.values())


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions by computation, and the name of the entry's."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            shape, after = _split_shape(match["rest"])
            if opcode := re.match(r"[\w\-]+(?=\()", after):
                current.append(_Instruction(match["name"], shape, opcode[0], after[opcode.end() :]))
    if entry is None:
        raise ValueError("this is not the text of an HLO module: it has no ENTRY")
    return computations, entry


def _split_shape(text: str) -> tuple[str, str]:
    """`(f32[2]{0}, s32[]) while(...)` -> the shape, and what follows it."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == " " and depth == 0:
            return text[:place], text[place + 1 :]
    return text, ""


def _called(rest: str) -> Iterator[str]:
    """Names of the computations that an instruction runs."""
    for _, names in _CALLED.findall(rest):
        for name in names.strip("{}").split(","):
            yield name.strip().removeprefix("%")


def _trips(loop: _Instruction, computations: dict[str, list[_Instruction]]) -> int | None:
    """How often a loop runs, None where that depends on data."""
    if noted := re.search(r"known_trip_count\W+n\W+(\d+)", loop.rest):
        return int(noted[1])
    condition = computations[re.search(r"condition=%?([\w.\-]+)", loop.rest)[1]]
    compared = [one for one in condition if one.opcode == "compare"]
    limits = [re.match(r"\((\d+)\)", one.rest) for one in condition if one.opcode == "constant"]
    if len(compared) == len(limits) == 1 and limits[0] and "direction=LT" in compared[0].rest:
        return int(limits[0][1])
    return None


def _where(one: _Instruction) -> str:
    found = re.search(r'op_name="([^"]*)"', one.rest)
    return found[1] if found else ""


def _collective(kind: str, one: _Instruction, times: int, devices: int, where: str) -> Collective:
    shape = one.shape
    if one.opcode.endswith("-start") and kind != "all-reduce":  # (operands, results, ...)
        shape = _elements(shape)[1]
    group = devices if kind.startswith("collective") else _group(one, devices)
    nbytes = _nbytes(shape) * (group if kind == "reduce-scatter" else 1)
    return Collective(kind, nbytes, group, times, _where(one) or where)


def _group(one: _Instruction, devices: int) -> int:
    """Devices in a group: replica_groups is a list of lists, an iota, or axes of a mesh."""
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
        raise ValueError(f"{one.name}: cannot read {groups[0][:80]}")
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
    axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])  # a part of an axis has its own size
    return math.prod(int(part or sizes[name]) for name, part in axes)


def _elements(shape: str) -> Sequence[str]:
    """Of a tuple's shape, those of its elements."""
    elements, depth, start = [], 0, 1
    for place, letter in enumerate(shape):
        depth += (letter in "({[") - (letter in ")}]")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            elements.append(shape[start:place])
            start = place + 1
    return elements


def _nbytes(shape: str) -> int:
    """Of all arrays in a shape."""
    total = 0
    for dtype, sizes in re.findall(r"([a-z]\w*)\[([\d,<=]*)\]", shape):
        bits = _BITS.get(dtype) if dtype in _BITS else int(re.match(r"[a-z]+(\d+)", dtype)[1])
        entries = math.prod(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        total += -(-bits * entries // 8)
    return total
