"""What a merge would do, from headers alone: every problem at once, bytes, memory, method."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import tied_embeddings

MERGED = {np.dtype(name) for name in ("float32", "float16", "bfloat16")}
"""What takes part in merging; all else is theta_0's."""


@dataclass(frozen=True)
class Plan:
    """Which tensors are merged and which are theta_0's."""

    merged: list[str]
    kept: list[str]
    out_dtypes: dict[str, np.dtype]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0

    def check(self) -> None:
        """Raises one UserError that lists every problem."""
        if len(self.problems) == 1:
            raise UserError(f"these checkpoints cannot be merged: {self.problems[0]}")
        if self.problems:
            raise UserError(
                f"these checkpoints cannot be merged ({len(self.problems)} problems):\n  "
                + "\n  ".join(self.problems)
            )


def open_all(
    sources: Sequence[str], open_source: Callable[[str], TensorFiles]
) -> tuple[list[TensorFiles | None], list[str]]:
    """Every source's headers, None where they cannot be read, and the problems that tell why."""
    opened, problems = [], []
    for source in sources:
        try:
            opened.append(open_source(source))
        except UserError as error:
            opened.append(None)
            problems.append(str(error))
    return opened, problems


def make_plan(
    pretrained: TensorFiles | None,
    models: Sequence[TensorFiles],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    out_dtype: np.dtype | None = None,
) -> Plan:
    """Compares every model's headers with theta_0's.

    Args:
      pretrained: theta_0, None where it cannot be read: then there is nothing to compare with.
      include: shell patterns of names that are merged; none means all.
      exclude: patterns of names that are kept as theta_0 has them.
      out_dtype: of merged tensors in the output; None keeps theta_0's.
    """
    if pretrained is None:
        return Plan([], [], {})
    problems, notes = [], _repeats(pretrained, models)
    try:
        read_object(pretrained.directory / "config.json")
    except UserError as error:  # the output would have it too
        problems.append(str(error))

    def wanted(name: str) -> bool:
        chosen = not include or any(fnmatch.fnmatchcase(name, p) for p in include)
        return chosen and not any(fnmatch.fnmatchcase(name, p) for p in exclude)

    for pattern in (*include, *exclude):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in pretrained.tensors):
            problems.append(f"the pattern {pattern!r} matches no tensor of {pretrained.place}")
    merged = [n for n, t in pretrained.tensors.items() if wanted(n) and t.dtype in MERGED]
    merged_names = set(merged)
    kept = [name for name in pretrained.tensors if name not in merged_names]
    others = [n for n in kept if wanted(n)]
    if others:
        notes.append(f"{len(others)} tensors are not floating-point and stay: {_some(others)}")
    if not merged:
        problems.append(f"{pretrained.place} holds no floating-point tensor to merge")
    for model in models:
        problems += _differences(pretrained, model, merged, kept)
        notes += _notes(pretrained, model, merged)
    out_dtypes = {
        name: out_dtype if out_dtype is not None and name in merged_names else tensor.dtype
        for name, tensor in pretrained.tensors.items()
    }
    return Plan(
        merged,
        kept,
        out_dtypes,
        problems,
        notes,
        bytes_read=pretrained.nbytes
        + sum(m.tensors[n].nbytes for m in models for n in merged if n in m.tensors),
        bytes_written=sum(t.size * out_dtypes[n].itemsize for n, t in pretrained.tensors.items()),
    )


def _differences(pretrained: TensorFiles, model: TensorFiles, merged, kept) -> list[str]:
    where, problems = model.place, []
    for name in merged:
        theirs, ours = model.tensors.get(name), pretrained.tensors[name]
        if theirs is None:
            problems.append(
                f"{where}: {name} is missing{tied_embeddings.why_missing(name, pretrained, model)}"
            )
        elif theirs.shape != ours.shape:
            shapes = f"{list(theirs.shape)}, theta_0's {list(ours.shape)}"
            problems.append(f"{where}: {name} has shape {shapes}")
        elif theirs.dtype not in MERGED:
            problems.append(f"{where}: {name} is {theirs.dtype}, which is not merged")
    known = set(merged) | set(kept)
    problems += [
        f"{where}: {name} is not in theta_0{tied_embeddings.why_unexpected(name, model)}"
        for name in model.tensors
        if name not in known
    ]
    return problems


def _notes(pretrained: TensorFiles, model: TensorFiles, merged) -> list[str]:
    notes = []
    differing = [
        name
        for name in merged
        if name in model.tensors and model.tensors[name].dtype != pretrained.tensors[name].dtype
    ]
    if differing:
        notes.append(f"{model.place}: another dtype than theta_0's in {_some(differing)}")
    return notes


def _repeats(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> list[str]:
    """Notes on models that are theta_0, or each other: allowed, but rarely meant."""
    theta_0, *places = [
        tuple(path.resolve() for path in files.files) for files in (pretrained, *models)
    ]
    notes = []
    for i, model in enumerate(models):
        if places[i] == theta_0:
            notes.append(f"{model.place} is theta_0 itself: its task vector is zero")
        elif places[i] in places[:i]:
            notes.append(f"{model.place} is named more than once: it counts each time")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
