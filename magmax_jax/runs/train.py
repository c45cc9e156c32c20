"""A whole experiment: the composition of everything else."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.data import Source
from magmax_jax.errors import ConfigError, counted
from magmax_jax.evaluation.rows import Row, num_rows
from magmax_jax.evaluation.scales import describe as describe_sweep
from magmax_jax.io.folders import existing_parent
from magmax_jax.merging import fold
from magmax_jax.merging.rule import informed
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs import manifest, state
from magmax_jax.runs.build import RunParts, build_run
from magmax_jax.runs.check import check_config, check_number, check_seed, field_of
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.choose_scales import check_held_out, choose_scales
from magmax_jax.runs.computes_on import computes_on
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.holding import held, refuse_if_held
from magmax_jax.runs.inputs import Inputs
from magmax_jax.runs.kept_head import keep_head
from magmax_jax.runs.kept_tasks import to_keep
from magmax_jax.runs.learn_task import learn, remember
from magmax_jax.runs.merge_specs import num_models, parse_merges
from magmax_jax.runs.notes import notes_of
from magmax_jax.runs.preemption import stop_signals
from magmax_jax.runs.progress import NullProgress, Progress
from magmax_jax.runs.recorder import Recorder, counts_bytes, until
from magmax_jax.runs.refit_task import plain_models, refit
from magmax_jax.runs.refits import Refitter
from magmax_jax.runs.state import RunState
from magmax_jax.runs.step_log import Board, StepLog, check_boards
from magmax_jax.runs.sweep import check as check_sweep
from magmax_jax.runs.sweep import sweep
from magmax_jax.scenarios import Scenario, build_scenario, curriculum
from magmax_jax.sharding import build_layout
from magmax_jax.training import Params


def run(
    config: ExperimentConfig,
    out: RunDirectory,
    progress: Progress | None = None,
    boards: Sequence[Board] = (),
    command: str = "",
    sweeps: SweepConfig | None = None,
    show: Callable[[Sequence[Row], str], None] = lambda rows, scenario: None,
    given: tuple[Source, Source] | None = None,
    allow_changed: bool = False,
) -> list[Row]:
    """Learns the scenario's tasks one after another, merging after each one, and evaluating after
    those that `config.evaluate` names.

    Writes `config.json`, `about.json`, `head.safetensors`, `results.jsonl`, `metrics.jsonl`,
    `counts/`, `checkpoints/` (and `tasks/`, if all are kept) into `out`, and each step's numbers to
    `boards`. `command` is recorded in `about.json` as the command that repeats the run. Finally,
    the scales in `config.merging.scales` and `sweeps` are tried, for `sweep.jsonl`, and process 0
    calls `show(rows, scenario name)`. `given` are the training and test images, if not those that
    the configuration names. `allow_changed` resumes a run even if its model's or data's files
    differ from those recorded.

    A complete run of the same configuration is shown again; an interrupted one resumes from its
    last checkpoint and ends bit-identical to an uninterrupted one. If several processes run it
    together, on a shared disk, the first one writes and shows progress. It holds the directory
    meanwhile (`holding.held`): a second run there is refused.

    Returns:
      the rows of `results.jsonl`.

    Raises:
      UserError: the configuration does not fit the devices, data, model, directory or disk; or
        another process is running in the directory.
      DivergedError: a loss is not finite; earlier rows and checkpoints are kept.
      Interrupted: the process was asked to stop; everything is saved.
    """
    progress = progress or NullProgress()
    check_config(config)
    check_boards(boards)
    models = num_models(config)
    swept = check_sweep(sweeps, config) if sweeps and sweeps.rules else {}
    layout = build_layout(config)
    if not layout.is_first:
        out = RunDirectory(out.path, out.overwrite, writes=False, resume=out.resume)
        progress = NullProgress()
    kept = out.holds(config)
    names = manifest.class_names(out.path) if kept else ()
    check_seed(config.seed, kept)
    inputs = Inputs(config, out, kept, allow_changed)
    scenario = build_scenario(inputs.config.scenario, config.seed, given, names)
    tasks = len(curriculum(scenario, config))
    check_number(parse_merges(config), tasks, partial(field_of, config))
    check_number(swept, tasks, lambda rule: "sweep.rules")
    rounds = len(config.evaluated_after(tasks))
    check_held_out(config, scenario, sweeps)
    done = kept and len(out.rows()) == num_rows(scenario, rounds, models)
    done = done and out.has_chosen(config, tasks)
    layout.meet("the configuration or what the directory holds", (config, done))
    parts = None
    if done:
        inputs.read_present(scenario)
    else:
        refuse_if_held(out, layout)
        with inputs.reading(scenario):
            parts = build_run(inputs.config, scenario, layout, run=out.path)
        for line in computes_on(parts):
            progress.say(line)
    for note in inputs.check(layout):
        progress.say(f"note: {note}")
    if parts is None:
        progress.say(f"{out.path} already contains this run (--overwrite repeats it)")
    else:
        _check_disk(parts, out, progress)
        with held(out, layout, progress.say):
            if not out.holds(config):  # check again, as another process may have run here
                out.start(config)
            manifest.write(out, parts, command, inputs.record(), inputs.changed)
            if out.writes:
                keep_head(out.path, parts.head, parts.head_from)
            progress.say(describe(scenario))
            for note in notes_of(parts):
                progress.say(f"note: {note}")
            learn_all(parts, out, progress, boards)
    layout.meet("the end")  # all rows are written by now
    sweeping = sweeps is not None and bool(sweeps.rules)
    if sweeps and sweeping:
        parts = parts or build_run(inputs.config, scenario, layout, run=out.path)
        sweep(sweeps, parts, out, progress)
    rows = out.rows()
    if out.writes:
        show(rows, scenario.name)
    if sweeping:
        scales, kind = out.scales(), SCENARIO_KINDS[config.scenario.kind]
        for sentence in describe_sweep(scales.swept, kind.task_aware, scales.published):
            progress.say(sentence)
    return rows


def learn_all(
    parts: RunParts, out: RunDirectory, progress: Progress, boards: Sequence[Board] = ()
) -> None:
    """MagMax's loop over tasks: fine-tune, fold into every merge, evaluate."""
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals(progress.say))
        checkpoints = stack.enter_context(
            Checkpoints(out.checkpoints, say=progress.say, check=out.check_held, tidy=True)
        )
        tasks, bits = None, parts.config.checkpoint.task_bits
        if parts.config.checkpoint.keep_tasks:
            tasks = stack.enter_context(
                Checkpoints(out.tasks, keep=None, say=progress.say, check=out.check_held, tidy=True)
            )

        def keep(at: RunState, moments: Params | None = None) -> None:
            if tasks and at.learned and at.learned not in tasks.numbers:
                tasks.save(at.learned, *to_keep(at.theta, parts.theta_0, bits, moments))

        def evaluate_all(at: RunState) -> None:
            if at.learned == len(parts.tasks):  # complete rows mean that the run is complete
                checkpoints.wait()
                if tasks:
                    tasks.wait()
            evaluate.all(at)

        at = state.restore(checkpoints, parts)
        if at is not None:
            progress.say(_where(at, parts))
            keep(at)  # the interruption may have prevented it
        at = at or state.beginning(parts)
        done = state.steps_done(parts, at)
        log = stack.enter_context(StepLog(out, done, boards, out.path.resolve().name))
        evaluate = Recorder(parts, out, progress, stop, at)
        refitter = Refitter(parts, progress, partial(until, stop))
        evaluated = parts.config.evaluated_after(len(parts.tasks))
        if at.learned in evaluated:
            evaluate_all(at)
        elif not at.learned:
            evaluate.zero_shot()
        for task in range(at.learned + 1, len(parts.tasks) + 1):
            at = at._replace(rows=tuple(out.rows()))
            theta, moments = learn(parts, at, checkpoints, stop, progress, log)
            before = plain_models(parts, at)  # folding donates the states' buffers
            states = {
                name: fold(
                    merge.rule,
                    at.states[name],
                    informed(merge.rule, theta, moments),
                    parts.theta_0,
                )
                for name, merge in parts.merges.items()
            }
            at = at._replace(
                learned=task, theta=theta, states=states, training=None, data=None, step=0
            )
            if tasks and moments is not None:
                keep(at, moments)
            del moments
            at = at._replace(
                memory=remember(parts, at, stop, progress),
                refits=refit(refitter, before, parts, at),
            )
            del before
            if tasks:  # a resumed run has neither an earlier task's model nor any task's moments
                tasks.wait()
            state.save(checkpoints, parts, at)
            keep(at)
            if task in evaluated:
                evaluate_all(at)
        choose_scales(parts, at.states, at.refits, out, progress, partial(until, stop))


def _check_disk(parts: RunParts, out: RunDirectory, progress: Progress) -> None:
    """Reports the disk space that the run needs; raises a ConfigError if there is less."""
    needed = state.bytes_needed(parts) + counts_bytes(parts)
    free = shutil.disk_usage(existing_parent(out.path)).free
    taken = sum(f.stat().st_size for f in out.path.rglob("*") if f.is_file())
    if needed > free + taken:
        raise ConfigError(
            f"{out.path}: checkpoints of this run take up to {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free there: make room, choose another --out, or keep less "
            "(fewer merges, checkpoint.keep_tasks=False, checkpoint.task_bits=8)"
        )
    progress.say(f"checkpoints take up to {needed / 1e9:.2f} GB of {free / 1e9:,.0f} GB free")


def _where(at: RunState, parts: RunParts) -> str:
    """Describes where a run resumes."""
    where = f"after task {at.learned} of {len(parts.tasks)}"
    if at.training:
        where = f"at step {at.step} of {parts.steps(at.learned + 1)} of task {at.learned + 1}"
    return f"resuming {where}"


def describe(scenario: Scenario) -> str:
    """One line on what is about to be learned."""
    train = sum(len(task.train) for task in scenario.tasks)
    return (
        f"{scenario.name}: {counted(len(scenario.tasks), 'task')}, "
        f"{counted(scenario.num_classes, 'class')}, "
        f"{train:,} training and {scenario.num_test:,} test images; accuracies among all classes"
    )
