"""A planned merge: its sources, method, bytes, memory, and every problem at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magmax_jax.errors import UserError, capped, counted
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import TensorSpecs
from magmax_jax.merge_files.chunk_sizes import BUFFER_BYTES, WORKERS
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.lora.writer import adapter_bytes
from magmax_jax.merge_files.side_by_side import AT_ONCE
from magmax_jax.merge_files.state import MergeHistory
from magmax_jax.merge_files.taken_as import taken_as

if TYPE_CHECKING:
    from magmax_jax.merging import MergeRule
    from magmax_jax.merging.rule import Scope, Thins

HOW = {
    "entry": "in chunks, all models side by side",
    "tensor": "tensor by tensor",
    "model": "all tensors at once",
}
"""How a rule is fed, by scope, in words."""
MOST_DRAWN = 16
"""Most models that are thinned at random in chunks: their program has a draw for each, which takes
long to compile for many."""
MOST = 20
"""Most lines in one message."""
PROBLEMS = 12
"""Most lines that list problems."""


@dataclass(frozen=True)
class Plan:
    """A job whose headers have been read; nothing has been computed or written.

    Attributes:
      history: of what was merged before this job.
      build: returns the rule of the options; if it has a survey, not yet completed.
      pretrained: theta_0, without files if they cannot be read, which is listed as a problem.
      models: theta_1 ... theta_T, as far as readable, under theta_0's names.
      state: the previous state, None at the start or without one.
      merged, kept: names of tensors that are merged, and of those copied from theta_0.
      out_dtypes: of every tensor of the output.
      state_layout: dtype and shape of every tensor of the next state.
      problems: why the job cannot be done, each in one sentence.
      notes: what is allowed, but rarely intended.
      least: by name of a merged tensor, what is kept of its entries in every task vector (a
        `trimming.Least` or `drawing.Drawn`); others count as zero. Empty if all are kept.
      companions: directory of the model whose tokenizer the output gets; None for theta_0's.
      labels: of the classes, in the order of the rows of the merged heads.
      twins: by name of a merged tensor, the names of tied copies that get its values.
      remedy: flags that leave out the tensors that do not fit, if that would help.
      parameters: of the recipe, in words, if the job follows one.
    """

    job: Job
    history: MergeHistory
    build: Callable[[], "MergeRule"]
    pretrained: TensorFiles
    models: tuple[TensorFiles, ...]
    state: TensorFiles | None
    merged: list[str]
    kept: list[str]
    out_dtypes: dict[str, np.dtype]
    state_layout: TensorSpecs
    problems: list[str]
    notes: list[str]
    twins: dict[str, tuple[str, ...]]
    remedy: str
    companions: Path | None = None
    labels: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    least: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> "MergeRule":
        return self.build()

    @property
    def scale(self) -> float:
        return self.rule.default_scale if self.job.scale is None else self.job.scale

    @property
    def thins(self) -> "Thins | None":
        """The rule's; None where it works tensor by tensor: with a state, and for many models."""
        whole = self.job.state is not None or len(self.models) > MOST_DRAWN
        return None if whole else self.rule.thins

    @property
    def scope(self) -> "Scope":
        """How the rule is fed, once surveyed."""
        return "entry" if self.rule.trims or self.thins else self.rule.scope

    def nbytes(self, names: Sequence[str]) -> int:
        """Bytes of these tensors in the files of theta_0 and of all models."""
        sources = (self.pretrained, *self.models)
        return sum(source.tensors[name].nbytes for source in sources for name in names)

    @property
    def bytes_read(self) -> int:
        models = sum(
            m.tensors[n].nbytes for m in self.models for n in self.merged if n in m.tensors
        )
        return self.pretrained.nbytes + models + (self.state.nbytes if self.state else 0)

    @property
    def bytes_written(self) -> int:
        if self.job.lora_rank is not None:
            return adapter_bytes(self.models, self.merged, self.job.lora_rank, self.job.out_dtype)
        tensors = self.pretrained.tensors.items()
        return sum(tensor.size * self.out_dtypes[name].itemsize for name, tensor in tensors)

    @property
    def memory(self) -> int:
        """Approximate peak memory of tensors, in bytes."""
        sizes = [4 * self.pretrained.tensors[name].size for name in self.merged]
        largest = max((self.held([name]) for name in self.merged), default=0)
        every = self.held(self.merged)
        beside = AT_ONCE if self.rule.decomposes else 0
        merging = {
            "entry": BUFFER_BYTES,
            "tensor": min(largest + beside, every),
            "model": every,
        }[self.scope]
        if self.rule.trims:
            merging = BUFFER_BYTES + (1 + WORKERS) * max(sizes, default=0)
        if self.job.lora_rank is None:
            return merging
        return max(merging, BUFFER_BYTES + 5 * max(sizes, default=0))  # factorised in float64

    def held(self, names: Sequence[str]) -> int:
        """Approximate peak memory of merging these tensors together, in bytes."""
        entries = sum(self.pretrained.tensors[name].size for name in names)
        return 4 * entries * (5 if self.rule.streaming else len(self.models) + 4)

    def describe(self) -> str:
        """What will happen: method, tensors, bytes, memory, notes and problems."""
        before, new = len(self.history.tasks), len(self.job.finetuned)
        more = f" ({before} in the state)" if before else ""
        title = self.title(before + new, more)
        lines = [title if self.problems else f"{title}, {HOW[self.scope]}", *self.parameters]
        if self.pretrained.files:
            merged = counted(len(self.merged), "tensor")
            lines.append(f"merges {merged}, keeps {len(self.kept)} of theta_0's")
        if not self.problems:
            lines += [self.taken_as] if self.taken_as else []
            lines.append(
                f"reads {size(self.bytes_read)}, writes {size(self.bytes_written)}, "
                f"takes about {size(self.memory)} of memory besides the program's own"
            )
        if self.problems:
            problems = [f"problem: {problem}" for problem in self.problems]
            lines += [*capped(problems, PROBLEMS), *self._way]
        return "\n".join([*lines, *self.note_lines(MOST - len(lines))])

    def title(self, tasks: int, more: str = "") -> str:
        """`MergeHistory.title` after so many tasks."""
        if recipe := self.job.recipe:
            return self.history.title(tasks + recipe.whole, None, more)
        return self.history.title(tasks, self.job.scale if self.problems else self.scale, more)

    @property
    def taken_as(self) -> str:
        """How the rule treats the tensors, if it does not treat all of them the same."""
        return taken_as(self.rule, self.merged, self.pretrained.tensors, size)

    def note_lines(self, most: int = MOST) -> list[str]:
        """The notes as shown in a terminal."""
        return capped([f"note: {note}" for note in self.notes], most)

    @property
    def _way(self) -> list[str]:
        """The remedy, unless the only problem already names it."""
        named = len(self.problems) == 1 and "--exclude" in self.problems[0]
        return [self.remedy] if self.remedy and not named else []

    def check(self) -> None:
        """Raises one UserError that lists every problem, if there are any."""
        if len(self.problems) == 1:
            raise UserError(
                "; ".join([f"these checkpoints cannot be merged: {self.problems[0]}", *self._way])
            )
        if self.problems:
            lines = [*capped(self.problems, PROBLEMS), *self._way]
            raise UserError(
                f"these checkpoints cannot be merged ({len(self.problems)} problems):\n  "
                + "\n  ".join(lines)
            )


def size(nbytes: float) -> str:
    """Bytes in readable form, to three digits: "12.3 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}" if unit != "bytes" else f"{nbytes} bytes"
        nbytes /= 1000
    return f"{nbytes:.3g} GB"
