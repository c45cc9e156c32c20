"""The whole of `magmax merge`: from what the user named to a directory that transformers loads."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import check_free, new_directory, refusing
from magmax_jax.io.safetensors.reader import TensorFiles, open_tensors
from magmax_jax.io.safetensors.writer import DirectoryWriter, FileWriter
from magmax_jax.merge_files import model_card, state
from magmax_jax.merge_files.execute import Job, merge_files
from magmax_jax.merge_files.plan import make_plan, open_all
from magmax_jax.merge_files.request import Request, begin, weight_problems
from magmax_jax.merge_files.state import Story, Task
from magmax_jax.merge_files.stream import BUFFER_BYTES
from magmax_jax.merge_files.survey import check_state_possible, is_elementwise, is_nameless, survey
from magmax_jax.merging import MergeRule, rules

HASHERS = 2
"""Threads that compute sha256s beside the merge: one takes longer than merging does."""


class Prepared:
    """A request whose headers have been read; nothing has been computed or written.

    What cannot be read or does not fit together is among the plan's problems.

    Args:
      request: what is wanted.
      open_source: gives the tensors of a source that the request names.

    Raises:
      UserError: the request contradicts itself or the state.
    """

    def __init__(self, request: Request, open_source: Callable[[str], TensorFiles] = open_tensors):
        self.request = request
        self.story, self.state = begin(request)
        try:
            self.rule = rules.named(self.story.rule, self.story.seed, **self._rule_options())
        except TypeError as error:
            given = ", ".join(f"{key}={value!r}" for key, value in self.story.options.items())
            raise UserError(f"--options: {self.story.rule} cannot take {given} ({error})") from None
        if request.state and not self.rule.streaming:
            raise UserError(
                f"{self.story.rule} needs all models at once: it has no state to keep in a file"
            )
        if request.state:
            check_state_possible(self.story.rule, self.story.options)
        self.chunked = is_elementwise(self.story.rule, self.story.options)
        self.nameless = is_nameless(self.story.rule, self.story.options)
        self.scale = self.rule.default_scale if request.scale is None else request.scale
        opened, problems = open_all([self.story.pretrained, *request.finetuned], open_source)
        self.pretrained, *models = opened
        self.models = [model for model in models if model is not None]
        out_dtype = np.dtype(request.out_dtype) if request.out_dtype else None
        plan = make_plan(self.pretrained, self.models, request.include, request.exclude, out_dtype)
        problems += plan.problems + weight_problems(request, self.story)
        self.layout = {}
        if request.state and self.pretrained:
            self.layout = state.layout(self.rule, plan.merged, self.pretrained)
            if self.state:
                problems += state.differences(self.state, self.layout, request.state)
        self.plan = dataclasses.replace(plan, problems=problems)

    def _rule_options(self) -> dict[str, Any]:
        """A kept state of MagMax also keeps which task supplied each entry."""
        keep = self.request.state and self.story.rule == "max_magnitude"
        return ({"provenance": True} if keep else {}) | self.story.options

    @property
    def bytes_read(self) -> int:
        return self.plan.bytes_read + (self.state.nbytes if self.state else 0)

    def describe(self) -> str:
        """What will happen: method, tensors, bytes, memory, notes and problems."""
        plan = self.plan
        largest = max((self.pretrained.tensors[n].size * 4 for n in plan.merged), default=0)
        held = len(self.models) + 4 if not self.rule.streaming else 5
        memory = BUFFER_BYTES if self.chunked else held * largest
        how = "in chunks, all models side by side" if self.chunked else "tensor by tensor"
        count = len(self.request.finetuned)
        lines = [f"{self.story.rule} of {count} models at scale {self.scale:g}, {how}"]
        if self.pretrained:
            lines.append(f"merges {len(plan.merged)} tensors, keeps {len(plan.kept)} of theta_0's")
        if not plan.problems:
            lines.append(
                f"reads {size(self.bytes_read)}, writes {size(plan.bytes_written)}, "
                f"takes about {size(memory)} of memory besides the program's own"
            )
        lines += [
            *(f"note: {note}" for note in plan.notes),
            *(f"problem: {problem}" for problem in plan.problems),
        ]
        return "\n".join(lines)

    def run(self, output: Path, advance: Callable[[int], None] = lambda nbytes: None) -> Story:
        """Merges into `output`, then brings the state file up to date; returns the whole story.

        Both appear whole or not at all, the state after the output.

        Raises:
          UserError: the plan has problems (all are named), the state holds one of the models
            already or was begun with another theta_0, an input is broken, or the disk refuses.
        """
        self.plan.check()
        check_free(output)
        tensors = {
            name: (self.plan.out_dtypes[name], tensor.shape)
            for name, tensor in self.pretrained.tensors.items()
        }
        with ThreadPoolExecutor(HASHERS) as pool, contextlib.ExitStack() as aside:
            # After an error, sha256s that nobody will read are not begun.
            aside.callback(pool.shutdown, wait=False, cancel_futures=True)
            digests = self._digests(pool)
            if self.state and self.request.checksums:
                self._check_digests(digests)
            keeper = self._keeper(aside)
            with new_directory(output) as partial:
                with DirectoryWriter(partial, tensors, self.request.shard_bytes) as writer:
                    job = Job(
                        self.pretrained, self.models, self.plan, self._surveyed(),
                        self.chunked, self.nameless, self.scale, writer, self.state, keeper,
                        advance,
                    )  # fmt: skip
                    norms = merge_files(job)
                story = self._tell(norms, digests)
                model_card.copy_companions(self.pretrained, partial, self.request.out_dtype)
                text = model_card.model_card(story, self.scale, self.plan.kept)
                (partial / "README.md").write_text(text)
            if keeper:
                with refusing(self.request.state):
                    keeper.close(story.to_metadata())
                    os.replace(keeper.path, self.request.state)
        return story

    def _surveyed(self) -> MergeRule:
        """The rule, told what it must know of whole task vectors."""
        name, options = self.story.rule, self.story.options
        found = survey(name, options, self.pretrained, self.models, self.plan.merged)
        return rules.named(name, self.story.seed, **(found | options)) if found else self.rule

    def _keeper(self, aside: contextlib.ExitStack) -> FileWriter | None:
        """The next state's file under a temporary name, removed unless it is renamed."""
        path = self.request.state
        if not path:
            return None
        tasks = len(self.story.tasks) + len(self.models)
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}-{os.getpid()}")
            temporary.unlink(missing_ok=True)
            keeper = FileWriter(temporary, self.layout, metadata_bytes=(tasks + 2) * 4096)
        aside.callback(keeper.abandon)
        return keeper

    def _digests(self, pool: ThreadPoolExecutor) -> list[Future | None]:
        """sha256 of theta_0 and of every model, in the background; None where none is wanted."""
        wanted = [self.pretrained, *self.models]
        return [
            pool.submit(model_card.digest, files) if self.request.checksums else None
            for files in wanted
        ]

    def _check_digests(self, digests: list[Future]) -> None:
        """Waits for the sha256s that tell whether the state may be continued with these models."""
        (first, *rest), path, problems = digests, self.request.state, []
        if self.story.sha256 and first.result() != self.story.sha256:
            problems.append(
                f"{self.story.pretrained} is not the theta_0 with which {path} was begun: its "
                "weights have changed since; bring them back or begin another state"
            )
        tasks = enumerate(self.story.tasks, start=1)
        earlier = {task.sha256: i for i, task in tasks if task.sha256}
        for source, future in zip(self.request.finetuned, rest, strict=True):
            if earlier and future.result() in earlier:
                number = earlier[future.result()]
                problems.append(
                    f"{source} is in this state already, as task {number}: leave it out"
                )
        dataclasses.replace(self.plan, problems=problems).check()

    def _tell(self, norms: np.ndarray, digests: list[Future | None]) -> Story:
        first, *rest = [future.result() if future else None for future in digests]
        tasks = [
            Task(source, sha256, float(norm))
            for source, sha256, norm in zip(self.request.finetuned, rest, norms, strict=True)
        ]
        return dataclasses.replace(
            self.story,
            sha256=self.story.sha256 or first,
            tasks=(*self.story.tasks, *tasks),
        )


def size(nbytes: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":
            return f"{nbytes:.3g} {unit}" if unit != "bytes" else f"{nbytes} bytes"
        nbytes /= 1000
    raise AssertionError("unreachable")
