"""Who merges: one command each, for the same files."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.arguments import WEIGHTS


@dataclass(frozen=True)
class Job:
    """theta_0, theta_1 ... theta_N and where the merged model goes, all directories."""

    pretrained: Path
    finetuned: Sequence[Path]
    output: Path

    @property
    def flags(self) -> list[str]:
        names = map(str, self.finetuned)
        return [
            *("--pretrained", str(self.pretrained)),
            *("--finetuned", *names),
            *("--output", str(self.output)),
        ]


@dataclass(frozen=True)
class Contender:
    """A way of merging."""

    name: str
    command: Callable[[Job], list[str]]
    ours: str
    """Ours that does the same work: what its seconds and its output are compared with."""
    needs: str | None = None
    """The module without which it is absent, None for ours and those that need nothing."""
    merges: bool = True
    """Whether its output is a merged model."""


def contenders(peers: Path) -> list[Contender]:
    """All of them.

    Args:
      peers: the python in whose environment the peers are installed.
    """
    ours = {
        "max_magnitude": ["--rule", "max_magnitude"],
        "max_magnitude, no checksums": ["--rule", "max_magnitude", "--no-checksums"],
        "average": ["--rule", "average"],
        "ties": ["--rule", "ties"],
        "ties, trimmed per tensor": [
            *("--rule", "ties"),
            *("--options", "threshold=per_tensor", "majority=1"),
        ],
    }
    official = ("official", "official", "safetensors.torch")
    fusion_bench = ("fusion_bench", "fusion_bench_magmax", "fusion_bench.method")
    mergekit = ("mergekit", "mergekit_merge", "mergekit.scripts.merge_raw_pytorch")
    theirs = [
        (*official, "max_magnitude", "max_magnitude"),
        (*official, "average", "average"),
        (*official, "ties", "ties"),
        (*fusion_bench, "max_magnitude", "max_magnitude"),
        (*mergekit, "average", "average"),
        (*mergekit, "ties", "ties, trimmed per tensor"),
    ]
    return [
        *(_ours(name, flags) for name, flags in ours.items()),
        *(
            Contender(f"{who}: {same}", _peer(peers, module, rule), f"ours: {same}", needs)
            for who, module, needs, rule, same in theirs
        ),
        Contender("limit: cat", _cat, "ours: max_magnitude", merges=False),
        Contender(
            "limit: read and write",
            _peer(Path(sys.executable), "copy_files", "copy"),
            "ours: max_magnitude",
            merges=False,
        ),
    ]


def _ours(name: str, flags: list[str]) -> Contender:
    start = [sys.executable, "-m", "magmax_jax", "merge"]
    same = f"ours: {name.removesuffix(', no checksums')}"
    return Contender(f"ours: {name}", lambda job: [*start, *flags, *job.flags], ours=same)


def _peer(python: Path, module: str, rule: str) -> Callable[[Job], list[str]]:
    start = [str(python), "-m", f"benchmarks.peers.{module}", "--rule", rule]
    return lambda job: [*start, *job.flags]


def _cat(job: Job) -> list[str]:
    files = [str(path / WEIGHTS) for path in (job.pretrained, *job.finetuned)]
    return ["sh", "-c", 'exec cat "$@" > /dev/null', "cat", *files]
