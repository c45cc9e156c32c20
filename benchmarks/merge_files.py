"""`benchmarks.merge files`: checkpoints, ours and others, side by side on the same files."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.checkpoints import SEVEN_B, SHARDS, Size, compare, make_checkpoints, weights
from benchmarks.contenders import Whole, of_checkout
from benchmarks.flags import BeforeFlags, PeersFlags, matching
from benchmarks.machine import describe
from benchmarks.tables import Output, table


@dataclass(frozen=True)
class Files(PeersFlags, BeforeFlags):
    """Times every contender as a whole process and prints one table per number of models."""

    models: tuple[int, ...] = (2, 8, 20)
    """How many fine-tuned models are merged."""
    size: Size = "vit-b16"
    """CLIP ViT-B/16, 149.6 M parameters in float32; 7b: Mistral 7B's embeddings and two of its
    layers, 698 M parameters in bfloat16 and four shards; the others are for trials."""
    work: Path | None = None
    """Directory for checkpoints, which are reused, and outputs (default: a temporary one)."""
    memory_limit: float = 20.0
    """GB of private memory; a contender that takes more is killed."""
    once_over: float = 60.0
    """Seconds; a contender that takes longer is run once, whatever `repeats` says."""
    time_limit: float = 900.0
    """Seconds; a contender that takes longer is killed."""


OURS = {
    "ours: max_magnitude": "--rule max_magnitude",
    "ours: max_magnitude, no checksums": "--rule max_magnitude --no-checksums",
    "ours: average": "--rule average",
    "ours: ties": "--rule ties",
    "ours: ties, trimmed per tensor": "--rule ties --options threshold=per_tensor majority=1",
    "ours: iso_c": "--rule iso_c",
    "ours: tsv_m": "--rule tsv_m",
    "ours: opcm": "--rule opcm",
    "ours: opcm, embeddings added": "--rule opcm --options others=added",
}
"""Flags by name."""
PEERS = {
    "official: max_magnitude": "safetensors.torch",
    "official: average": "safetensors.torch",
    "official: ties": "safetensors.torch",
    "fusion_bench: max_magnitude": "fusion_bench.method",
    "fusion_bench: iso_c": "fusion_bench.method",
    "fusion_bench: tsv_m": "fusion_bench.method",
    "fusion_bench: opcm, embeddings added": "fusion_bench.method",
    "mergekit: average": "mergekit.scripts.merge_raw_pytorch",
    "mergekit: ties, trimmed per tensor": "mergekit.scripts.merge_raw_pytorch",
}
"""By name, "PEER: " and our line that does the same work; the module that it needs."""
LIMITS = {
    "limit: cat": 'shift 2; exec cat "$@" > /dev/null',
    "limit: read and write": "out=$1; n=$2; shift 2; one=$(($# / n)); "
    'i=0; while [ $i -lt $one ]; do cat "$1"; shift; i=$((i + 1)); done > "$out"; '
    'exec cat "$@" > /dev/null',
}
"""By name, a shell program that takes the output, the number of models, and their files."""


def reference(name: str) -> str:
    """Name of our line that does the same work: its seconds and output are the reference."""
    if name in LIMITS:
        return "ours: max_magnitude"
    if name.startswith("before: "):
        return name.replace("before", "ours", 1)
    return f"ours: {name.partition(': ')[2].removesuffix(', no checksums')}"


def earlier(name: str) -> str:
    """The name of a line of `OURS` when another checkout computes it."""
    return name.replace("ours", "before", 1)


def mergers(settings: Files, paths: Sequence[Path], outputs: Path) -> list[Whole]:
    """All contenders, for the directories of theta_0, theta_1 ... theta_N; each writes to the
    folder `outputs`/NAME."""
    theta_0, *finetuned = map(str, paths)
    files = [file for path in paths for file in weights(path)]

    def one(name: str, *command: str, **more: Any) -> Whole:
        def before() -> None:
            """Flushes earlier writes and reads the models into the page cache."""
            shutil.rmtree(outputs / name, ignore_errors=True)
            os.sync()
            for path in files:
                with open(path, "rb", buffering=0) as file:
                    while file.read(1 << 22):
                        pass

        return Whole(
            name=name, command=command, labels={"models": len(finetuned)}, python=settings.peers,
            memory=settings.memory_limit * 1e9, limit=settings.time_limit,
            once_over=settings.once_over, before=before, **more,
        )  # fmt: skip

    def ours(name: str, called: str | None = None, **variables: str) -> Whole:
        called = called or name
        given = ["--pretrained", theta_0, "--finetuned", *finetuned]
        given += ["--output", str(outputs / called), *OURS[name].split()]
        command = [sys.executable, "-m", "magmax_jax", "merge", *given]
        return one(called, *command, variables=variables)

    def peer(name: str) -> Whole:
        package, rule = name.split(",")[0].split(": ")
        command = [str(settings.peers), "-m", "benchmarks.peers.merge", package, rule]
        return one(name, *command, str(outputs / name), theta_0, *finetuned, needs=PEERS[name])

    def limit(name: str) -> Whole:
        given = [str(outputs / name), str(len(paths)), *map(str, files)]
        return one(name, "sh", "-c", LIMITS[name], "sh", *given)

    field = []
    for name in OURS:
        field.append(ours(name))
        if settings.before is not None:
            field.append(ours(name, earlier(name), **of_checkout(settings.before)))
    # Only mergekit supports shards.
    peers = [name for name in PEERS if settings.size != SEVEN_B or name.startswith("mergekit")]
    return [*field, *map(peer, peers), *map(limit, LIMITS)]


def rows(ended: Sequence[Whole], differences: Mapping[str, str], paths: Sequence[Path]) -> str:
    """The table for one number of models.

    Args:
      paths: the directories that are read; the output is as large as the first.
      differences: of each contender's output from ours, by name.
    """
    taken = {one.name: one.median() for one in ended if not one.failure}

    read = [sum(file.stat().st_size for file in weights(path)) for path in paths]

    def rate(one: Whole) -> str:
        moved = sum(read) + (0 if one.name == "limit: cat" else read[0])
        return f"{moved / 1e9 / one.median():.2f}"

    def largest(part: str, one: Whole) -> str:
        return tables.size(max(call[part] for call in one.calls))

    columns = {
        "seconds": tables.median(),
        "all runs": tables.every(),
        "GB/s": rate,
        "times ours": lambda one: tables.ratio(taken[one.name], taken.get(reference(one.name))),
        "core-seconds": lambda one: f"{one.median('core_seconds'):.2f}",
        "private memory": lambda one: largest("private", one),
        "resident memory": lambda one: largest("resident", one),
        "output": lambda one: differences.get(one.name, ""),
    }
    return table({"": tables.name}, columns, ended)


def run(settings: Files) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: no contender matches.
    """
    before = map(earlier, OURS) if settings.before is not None else ()
    matching(
        [*OURS, *before, *PEERS, *LIMITS], settings.only, str
    )  # a mistake is reported before any work
    description = describe(settings.peers, before=settings.before) | {
        "checkpoints": f"7b, bfloat16, {SHARDS} shards"
        if settings.size == SEVEN_B
        else f"{settings.size}, float32",
        "limits": f"{settings.memory_limit:g} GB of private memory, {settings.time_limit:g} s",
    }
    output = Output(settings.output, description)
    with contextlib.ExitStack() as stack:
        base = settings.work or stack.enter_context(tempfile.TemporaryDirectory())
        work = Path(base).resolve()
        paths = make_checkpoints(work, settings.size, max(settings.models))
        for models in settings.models:
            with tempfile.TemporaryDirectory(prefix="outputs-", dir=work) as folder:
                field = mergers(settings, paths[: models + 1], Path(folder))
                field = matching(field, settings.only)
                output.measure(field, settings.repeats)
                well = {one.name for one in field if not one.failure}
                differences = {
                    name: compare(Path(folder) / reference(name), Path(folder) / name)
                    for name in sorted(well - LIMITS.keys())
                    if name != reference(name) and reference(name) in well
                }
            output.show(f"## {models} models\n\n{rows(field, differences, paths[: models + 1])}")
