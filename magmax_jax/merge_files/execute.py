"""The whole of `magmax merge`: from a plan to a directory that transformers loads, and a state."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.io.companions import CARD
from magmax_jax.io.rooms import rooms_elsewhere
from magmax_jax.io.safetensors.digest import Digest
from magmax_jax.io.safetensors.reader import Reader
from magmax_jax.io.safetensors.writer import DirectoryWriter, FileWriter
from magmax_jax.merge_files import companions, dequantise, model_card
from magmax_jax.merge_files.by_chunk import by_chunk
from magmax_jax.merge_files.by_tensor import as_one_tree, by_tensor
from magmax_jax.merge_files.digests import HASHERS, compared_with_state, digests_of, finished
from magmax_jax.merge_files.lora.output import adapter_writer, add_companions
from magmax_jax.merge_files.lora.writer import AdapterWriter
from magmax_jax.merge_files.next_state import next_state
from magmax_jax.merge_files.outcome import Outcome
from magmax_jax.merge_files.output import check, is_file, new_output, open_writer
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.state import MergedModel, MergeHistory
from magmax_jax.merge_files.survey import surveyed
from magmax_jax.merging.rule import Scope

METHODS: dict[Scope, Callable[..., Iterator[Sequence[Any]]]] = {
    "entry": by_chunk,
    "tensor": by_tensor,
    "model": as_one_tree,
}
"""How a rule is fed, by scope."""


def execute(
    plan: Plan,
    output: Path,
    advance: Callable[[int], None] = lambda nbytes: None,
    say: Callable[[str], None] = lambda note: None,
) -> MergeHistory:
    """Merges into `output`, then updates the state file; returns the whole history.

    Both are written atomically, and together: see `next_state`.

    Args:
      output: a directory that does not exist yet, or a file if its name ends in .safetensors.
      advance: called with the number of bytes just read.
      say: called with each note on the finished merge, one sentence.

    Raises:
      UserError: the plan has problems (all are named), the state already holds one of the models or
        was started with another theta_0, an input is broken, the result is not finite, or a disk
        operation fails.
    """
    plan.check()
    check(plan, output)
    tensors = {
        name: (plan.out_dtypes[name], tensor.shape)
        for name, tensor in plan.pretrained.tensors.items()
    }
    with ThreadPoolExecutor(HASHERS) as pool, contextlib.ExitStack() as aside:
        # After an error, sha256s that will not be used are not started.
        aside.callback(pool.shutdown, wait=False, cancel_futures=True)
        digests = digests_of(plan)
        # A pass in chunks hashes what it reads. With a state, the sha256s are needed before.
        fed = () if plan.state or plan.scope != "entry" else digests
        sums = [] if fed else finished(digests, pool)
        compared_with_state(plan, sums).check()
        state = aside.enter_context(next_state(plan))
        notes = [
            f"{room} belongs to a merge on another host: remove it if that has ended"
            for room in rooms_elsewhere(output)
        ]
        with new_output(output, state.publish if state else None) as partial:
            writer = (
                open_writer(plan, partial, output, tensors)
                if plan.job.lora_rank is None
                else adapter_writer(plan, partial, plan.job.lora_rank)
            )
            with writer:
                ready = surveyed(plan, fed)
                leaves = state.writer if state else None
                norms = merge_tensors(
                    ready, writer, partial.parent, leaves, advance, notes.append, fed
                )
            history = _history_after(plan, norms, sums or finished(digests, pool))
            if isinstance(writer, AdapterWriter):
                notes.append(add_companions(plan, history, writer, partial))
            elif not is_file(output):
                _accompany(plan, partial, history)
            if state:
                state.complete(history, partial, output)
    for note in notes:
        say(note)
    return history


def _accompany(plan: Plan, directory: Path, history: MergeHistory) -> None:
    """Writes companion files and a model card beside the merged weights."""
    pretrained, models = plan.pretrained, plan.models
    companions.copy(pretrained, directory, plan.job.out_dtype, plan.labels, plan.companions)
    if plan.job.dequantise:
        dequantise.write_whole_config(directory, pretrained, plan.job.out_dtype)
    text = model_card.model_card(
        history, plan.scale, plan.kept, pretrained, models, taken_as=plan.taken_as
    )
    (directory / CARD).write_text(text, encoding="utf-8")


def merge_tensors(
    plan: Plan,
    output: DirectoryWriter | AdapterWriter,
    scratch: Path,
    next_state: FileWriter | None = None,
    advance: Callable[[int], None] = lambda nbytes: None,
    say: Callable[[str], None] = lambda note: None,
    digests: Sequence[Digest] = (),
) -> np.ndarray:
    """Writes all tensors, and the state's; returns every model's |tau|, float64 (t,).

    Args:
      plan: whose rule has been surveyed.
      scratch: a directory on the output's disk, for temporary data.
      digests: of the sources; fed with what a merge in chunks reads.

    Raises:
      UserError: an input or an entry of the result is not finite (the tensor is named), or a file
        has shrunk.
    """
    with Reader(digests) as reader:
        for name in plan.kept:
            kept = reader.whole(plan.pretrained.tensors[name])
            output.write(name, dequantise.as_written(name, kept, plan.out_dtypes[name]))
            advance(plan.pretrained.tensors[name].nbytes)
        squares, outcome = np.zeros(len(plan.models)), Outcome(plan, output, scratch)
        for part in METHODS[plan.rule.scope](plan, reader, outcome, next_state, advance):
            squares += np.asarray(part, np.float64)
    for note in outcome.notes():
        say(note)
    return np.sqrt(squares)


def _history_after(plan: Plan, norms: np.ndarray, digests: Sequence[Future[str]]) -> MergeHistory:
    unknown: list[str | None] = [None] * (1 + len(plan.models))
    first, *rest = [future.result() for future in digests] or unknown
    merged = [
        MergedModel(source, sha256, float(norm))
        for source, sha256, norm in zip(plan.job.finetuned, rest, norms, strict=True)
    ]
    history = plan.history
    return dataclasses.replace(
        history,
        sha256=history.sha256 or first,
        tasks=(*history.tasks, *merged),
        labels=plan.labels or history.labels,
    )
