"""What a merge would do, from headers alone: every problem at once, bytes, memory, method."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError, counted
from magmax_jax.io.safetensors.reader import TensorFiles, open_tensors
from magmax_jax.io.safetensors.writer import TensorSpecs
from magmax_jax.merge_files import compare, state
from magmax_jax.merge_files.job import Job, begin
from magmax_jax.merge_files.rule_limits import check_state_possible, unfit_models
from magmax_jax.merge_files.state import MergeHistory
from magmax_jax.merge_files.stream import BUFFER_BYTES
from magmax_jax.merging import MergeRule

HOW = {
    "entry": "in chunks, all models side by side",
    "tensor": "tensor by tensor",
    "model": "all tensors at once",
}
"""How a rule is fed, by its scope, in words."""


@dataclass(frozen=True)
class Plan:
    """A job whose headers have been read; nothing has been computed or written.

    Attributes:
      history: of what was merged before this job.
      rule: as the options make it; where it has a survey, not yet completed.
      pretrained: theta_0, without files where they cannot be read; that is among the problems.
      models: theta_1 ... theta_T, those that can be read.
      state: the state before, None at the beginning or without one.
      merged, kept: names of tensors that are merged, and of those that stay theta_0's.
      out_dtypes: of every tensor of the output.
      state_layout: dtype and shape of every tensor of the state after.
      problems: why the job cannot be done, each in one sentence.
      notes: what is allowed, but rarely meant.
    """

    job: Job
    history: MergeHistory
    rule: MergeRule
    scale: float
    pretrained: TensorFiles
    models: tuple[TensorFiles, ...]
    state: TensorFiles | None
    merged: list[str]
    kept: list[str]
    out_dtypes: dict[str, np.dtype]
    state_layout: TensorSpecs
    problems: list[str]
    notes: list[str]

    @property
    def bytes_read(self) -> int:
        models = sum(
            m.tensors[n].nbytes for m in self.models for n in self.merged if n in m.tensors
        )
        return self.pretrained.nbytes + models + (self.state.nbytes if self.state else 0)

    @property
    def bytes_written(self) -> int:
        tensors = self.pretrained.tensors.items()
        return sum(tensor.size * self.out_dtypes[name].itemsize for name, tensor in tensors)

    @property
    def memory(self) -> int:
        """Bytes that tensors take at most, about."""
        if self.rule.scope == "entry":
            return BUFFER_BYTES
        sizes = [4 * self.pretrained.tensors[name].size for name in self.merged]
        at_once = max(sizes, default=0) if self.rule.scope == "tensor" else sum(sizes)
        return at_once * (5 if self.rule.streaming else len(self.models) + 4)

    def describe(self) -> str:
        """What will happen: method, tensors, bytes, memory, notes and problems."""
        before, new = len(self.history.tasks), len(self.job.finetuned)
        models = counted(before + new, "model") + (f" ({before} in the state)" if before else "")
        how = HOW[self.rule.scope]
        lines = [f"{self.history.rule} of {models} at scale {self.scale:g}, {how}"]
        if self.pretrained.files:
            merged = counted(len(self.merged), "tensor")
            lines.append(f"merges {merged}, keeps {len(self.kept)} of theta_0's")
        if not self.problems:
            lines.append(
                f"reads {size(self.bytes_read)}, writes {size(self.bytes_written)}, "
                f"takes about {size(self.memory)} of memory besides the program's own"
            )
        lines += [
            *(f"note: {note}" for note in self.notes),
            *(f"problem: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)

    def check(self) -> None:
        """Raises one UserError that lists every problem, if there are any."""
        if len(self.problems) == 1:
            raise UserError(f"these checkpoints cannot be merged: {self.problems[0]}")
        if self.problems:
            raise UserError(
                f"these checkpoints cannot be merged ({len(self.problems)} problems):\n  "
                + "\n  ".join(self.problems)
            )


def make_plan(job: Job, open_source: Callable[[str], TensorFiles] = open_tensors) -> Plan:
    """Reads all headers. What cannot be read or does not fit together is among the problems.

    Args:
      job: what is wanted.
      open_source: gives the tensors of a source that the job names.

    Raises:
      UserError: the job contradicts itself or the state, or its rule cannot keep a state in a file.
    """
    history, before = begin(job)
    rule = history.build_rule(kept=job.state is not None)
    if job.state:
        check_state_possible(history.rule, rule)
    problems: list[str] = []
    notes: list[str] = []
    layout: TensorSpecs = {}
    first, *opened = _open_all([history.pretrained, *job.finetuned], open_source, problems)
    pretrained = first or TensorFiles(Path(history.pretrained), (), {}, {})
    models = [model for model in opened if model is not None]
    merged: list[str] = []
    if pretrained.files:  # else there is nothing to compare with
        merged, others = compare.choose(pretrained, job.include, job.exclude)
        problems += compare.problems(pretrained, models, merged, (*job.include, *job.exclude))
        notes += compare.notes(pretrained, models, merged, others)
    problems += unfit_models(job, history, rule)
    if job.scale is not None and not math.isfinite(job.scale):
        problems.append(f"--scale is {job.scale}: give a finite number")
    if job.state and pretrained.files:
        layout = state.layout(rule, merged, pretrained)
        if before:
            problems += state.differences(before, layout, job.state)
    if rule.scope == "model":
        notes.append(
            f"{history.rule} does not say that it works tensor by tensor (MergeRule.scope), so "
            "all tensors are in memory at once"
        )
    chosen = set(merged)
    dtypes = dict.fromkeys(merged, np.dtype(job.out_dtype)) if job.out_dtype else {}
    return Plan(
        job=job,
        history=history,
        rule=rule,
        scale=rule.default_scale if job.scale is None else job.scale,
        pretrained=pretrained,
        models=tuple(models),
        state=before,
        merged=merged,
        kept=[name for name in pretrained.tensors if name not in chosen],
        out_dtypes={name: t.dtype for name, t in pretrained.tensors.items()} | dtypes,
        state_layout=layout,
        problems=problems,
        notes=notes,
    )


def _open_all(
    sources: Sequence[str], open_source: Callable[[str], TensorFiles], problems: list[str]
) -> list[TensorFiles | None]:
    """Every source's headers; None where they cannot be read, with the reason in `problems`."""
    opened: list[TensorFiles | None] = []
    for source in sources:
        try:
            opened.append(open_source(source))
        except UserError as error:
            opened.append(None)
            problems.append(str(error))
    return opened


def size(nbytes: float) -> str:
    """Bytes for readers, to three digits: "12.3 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}" if unit != "bytes" else f"{nbytes} bytes"
        nbytes /= 1000
    return f"{nbytes:.3g} GB"
