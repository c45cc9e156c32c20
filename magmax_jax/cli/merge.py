"""Checkpoints in, a checkpoint out: `magmax merge` and `magmax inspect`."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.cli.flag_types import NOT_GIVEN, REGISTRY, Several, checked_by_tyro
from magmax_jax.cli.push import Push
from magmax_jax.config import listing
from magmax_jax.errors import MAGMAX, Program, UserError, capped, harmless
from magmax_jax.io.rooms import scratch_room
from magmax_jax.registry import COMMANDS, RULES

if TYPE_CHECKING:  # both take seconds to import, and --help and flag errors do not need them
    from magmax_jax.io.hub_upload import Upload
    from magmax_jax.io.safetensors.reader import TensorFiles
    from magmax_jax.merge_files.plan import Plan


@checked_by_tyro
@dataclass(frozen=True)
class Merge:
    """Merges checkpoints fine-tuned from the same model; any architecture, tensor by tensor.

    Sources are hub ids, directories (single or sharded safetensors), .safetensors files, LoRA
    adapters as peft saves them, or runs: RUN is its last model, RUN:zero_shot its theta_0,
    RUN:RULE@SCALE one of its merges.

    A recipe of mergekit's (NAME.yml) says all of this itself.
    """

    recipe: tyro.conf.Positional[Path | None] = None
    """mergekit recipe: takes the place of --finetuned, --pretrained, --rule, --scale, --options and
    --out-dtype; see docs/mergekit.md."""
    finetuned: Several = NOT_GIVEN
    """theta_1 ... theta_T in the order of their tasks."""
    pretrained: str | None = None
    """theta_0; not needed once a state file records it."""
    output: Path | None = None
    """Directory to write, or NAME.safetensors for the weights alone; it appears whole or not at
    all."""
    rule: Annotated[str | None, listing(RULES)] = None
    """Merge rule, or your own as module:function; not set: the state's, or max_magnitude."""
    scale: float | None = None
    """lambda in theta_0 + lambda tau, negative to subtract what was learned; not set: the rule's
    published default."""
    options: Several = NOT_GIVEN
    """Options of the rule as KEY=VALUE: density=0.1, or with several values weights=1,2,3."""
    seed: int = 0
    """Seed of rules that draw at random."""
    include: Several = NOT_GIVEN
    """Shell patterns of the tensors to merge (default: all): vision_model.* visual_projection.*"""
    exclude: Several = NOT_GIVEN
    """Patterns of tensors to keep as in theta_0 and to ignore in the models."""
    out_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Dtype of merged tensors; not set: theta_0's. Merging is computed in float32."""
    state: Path | None = None
    """File that keeps the running state: merge the next model without the earlier ones."""
    checksums: bool = True
    """Put the sha256 of every source into the model card and the state."""
    dry_run: bool = False
    """Report what would be done and every problem. Reads headers only; with a state it reads whole
    files, because checksums show which models it already holds (--no-checksums skips that).
    Embeddings that are stored twice are read, to see whether they are tied."""
    dequantise: Annotated[bool, tyro.conf.arg(aliases=["--dequantize"])] = False
    """Multiply FP8 weights by their scales; writes --out-dtype, or bfloat16 if not set."""
    companions_from: str | None = None
    """Model from which the output takes tokenizer, chat template and generation config; not set:
    theta_0."""
    lora_rank: int | None = None
    """Merge LoRA adapters into one of this rank, not into a model; --pretrained is optional."""
    rename: Several = NOT_GIVEN
    """PATTERN=REPLACEMENT for models' names that differ from theta_0's; each * stands for the same
    text on both sides, as in 'layers.*.sa.*=blocks.*.attn.*', and 'student.=' drops a prefix.
    A single prefix that fits every tensor is found automatically."""
    allow_changed: bool = False
    """Continue even if the files of a RUN's pretrained model have changed."""
    quiet: bool = False
    """Print no notes."""
    push: Annotated[Push, tyro.conf.arg(name="")] = field(default_factory=Push)

    def __call__(self) -> None:
        from magmax_jax.merge_files.job import Job, from_recipe
        from magmax_jax.merge_files.next_state import finish_interrupted
        from magmax_jax.merge_files.planner import make_plan
        from magmax_jax.runs.model_ref import absolute

        upload = self.push.checked(self.output)
        job = Job(
            pretrained=self.pretrained and absolute(self.pretrained),
            finetuned=_flat(self.finetuned),
            rule=self.rule,
            scale=self.scale,
            options=_options(_flat(self.options)),
            seed=self.seed,
            include=_flat(self.include),
            exclude=_flat(self.exclude),
            out_dtype=self.out_dtype,
            state=self.state,
            checksums=self.checksums,
            dequantise=self.dequantise,
            companions_from=self.companions_from,
            lora_rank=self.lora_rank,
            rename=_flat(self.rename),
        )
        if self.recipe is not None:
            from magmax_jax.merge_files.recipes.read import read_recipe

            job = from_recipe(read_recipe(self.recipe), job)
        if job.state and self.output and not self.dry_run:
            earlier = finish_interrupted(job.state)
            if earlier:
                note = f"{job.state} now has the merge in {earlier.output}, which was interrupted"
                print(harmless(f"note: {note}"), file=sys.stderr)
                if earlier.is_of(job, self.output):
                    history = earlier.history
                    title = history.title(len(history.tasks), earlier.scale)
                    print(f"{self.output}: {title}")
                    if upload:
                        print(harmless(upload(self.output)))
                    return
        with scratch_room() as temporary:
            plan = make_plan(job, _opener(temporary, self.allow_changed))
            self._run(plan, upload)

    def _run(self, plan: "Plan", upload: "Upload | None") -> None:
        from magmax_jax.merge_files.digests import compared_with_state
        from magmax_jax.merge_files.plan import MOST

        if self.quiet:
            plan = replace(plan, notes=[])
        if self.dry_run:
            plan = compared_with_state(plan)
            print(harmless(plan.describe()))
            plan.check()
            if upload:
                print(harmless(upload.describe(self.output)))
            return
        if self.output is None:
            raise UserError("--output is missing: name the directory to write")
        plan.check()
        from magmax_jax.merge_files.execute import execute  # imports JAX

        for note in plan.note_lines():
            print(harmless(note), file=sys.stderr)
        said: list[str] = []
        with _bar(plan.bytes_read) as advance:
            history = execute(plan, self.output, advance, said.append)
        print(f"{self.output}: {plan.title(len(history.tasks))}")
        for line in capped([f"note: {note}" for note in said if not self.quiet], MOST):
            print(harmless(line), file=sys.stderr)
        if upload:
            print(harmless(upload(self.output)))


@dataclass(frozen=True)
class Inspect:
    """Prints what a checkpoint or state holds: parts, norms, tasks, the share of each."""

    source: tyro.conf.Positional[str]
    """Hub id, directory, .safetensors file, RUN[:MODEL], or a state that a merge wrote."""
    allow_changed: bool = False
    """Continue even if the files of a RUN's pretrained model have changed."""

    def __call__(self) -> None:
        from rich.console import Console

        from magmax_jax.merge_files.inspect import inspect

        with scratch_room() as temporary:
            shown = inspect(self.source, _opener(temporary, self.allow_changed))
        Console(highlight=False, emoji=False).print(shown)


def _opener(temporary: Path, allow_changed: bool) -> Callable[[str], "TensorFiles"]:
    """Opens sources; models in a run's own format are first exported to `temporary`."""
    from magmax_jax.io.safetensors.reader import open_tensors
    from magmax_jax.runs.model_ref import model_of_run

    def open_source(source: str) -> "TensorFiles":
        found = model_of_run(source)
        if found is None:
            return open_tensors(source)
        from magmax_jax.runs.export import export

        run, model = found
        directory = temporary / f"{len(list(temporary.iterdir()))}-{run.name}-{model}"
        export(
            run, model, directory, allow_changed=allow_changed, say=partial(print, file=sys.stderr)
        )
        return replace(open_tensors(directory), called=Path(source))

    return open_source


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes in a terminal; yields a function that advances it."""
    if not sys.stderr.isatty():
        yield lambda nbytes: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("merging"), progress.BarColumn(), progress.DownloadColumn(),
        progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda nbytes: bar.advance(task, nbytes)


def _flat(groups: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(value for group in groups for value in group)


def _options(texts: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE as a number if it looks like one, KEY=VALUE,VALUE as a tuple."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UserError(f"--options: {text!r} is not KEY=VALUE")
        values = tuple(_value(part) for part in value.split(","))
        options[key.replace("-", "_")] = values if len(values) > 1 else values[0]
    return options


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Merges the checkpoints that the command line names."""
    tyro.cli(Merge, args=argv, prog=program.line("merge"), registry=REGISTRY)()


def inspect(argv: list[str], program: Program = MAGMAX) -> None:
    """Describes the checkpoint or state that the command line names."""
    tyro.cli(Inspect, args=argv, prog=program.line("inspect"))()


COMMANDS.register(
    "merge",
    Command(
        "Merges checkpoints that were fine-tuned from the same model.",
        main,
        collected=tuple(
            f"--{name}"
            for name, kind in get_type_hints(Merge, include_extras=True).items()
            if kind == Several
        ),
    ),
)
COMMANDS.register("inspect", Command("Shows what a checkpoint or a merge's state holds.", inspect))
