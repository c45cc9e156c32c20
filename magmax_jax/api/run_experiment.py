"""One experiment: `run(config, out)`, on a data set by name or on the user's own images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from magmax_jax.api.compilation_cache import keep_compiled_by_default
from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.data import Source, as_source
from magmax_jax.data.array_name import array_name, is_arrays
from magmax_jax.data.digest import digest
from magmax_jax.errors import Interrupted, UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.user_path import user_path
from magmax_jax.models.auto_axes import no_mesh
from magmax_jax.packages import missing_extras_named
from magmax_jax.report import plot, table
from magmax_jax.runs import train as runs_train
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import CONFIG
from magmax_jax.runs.progress import NullProgress, Progress, TerminalProgress


@missing_extras_named()
def run(
    config: ExperimentConfig,
    out: Path | str,
    *,
    train: Any = None,
    test: Any = None,
    overwrite: bool = False,
    resume: bool = True,
    allow_changed: bool = False,
    sweep: SweepConfig | Sequence[str] | None = None,
    boards: Sequence[Literal["tensorboard", "wandb"]] = (),
    progress: Progress | bool = True,
    command: str = "",
    keep_compiled: bool = True,
) -> list[Row]:
    """Learns the scenario's tasks one after another, merging and evaluating after each.

    The same call resumes an interrupted run, and returns the rows of a finished one at once.
    Ctrl-C, or a notebook's stop button, ends it after the current step and saves.

        rows = mm.run(mm.preset("quickstart"), "runs/quickstart")
        pandas.DataFrame(rows)

    Args:
      config: such as `preset("class")`.
      out: the run's directory: config.json, about.json, results.jsonl, metrics.jsonl, counts/,
        checkpoints/, report/accuracy.png; sweep.jsonl if scales are tried.
      train, test: your own images in any form that `as_source` takes, in place of the data set
        that the configuration names. Its prompts are then "a photo of a {}." unless
        `scenario.templates` are set. The directory records a digest of the data, and only the same
        data resumes the run.
      overwrite: replace a run that is already in the directory.
      resume: resume a run of the same configuration that is already there.
      allow_changed: continue even if the files of the model or the data differ from those that the
        run recorded when it started; about.json then says so.
      sweep: rules to evaluate at many scales after the last task, written to sweep.jsonl: their
        names, or a `SweepConfig`, which also has the scales.
      boards: log every step there, too; install tensorboardX or wandb yourself.
      progress: show bars, or report to your own `Progress`.
      command: recorded in about.json as the command that repeats the run.
      keep_compiled: keep compiled programs on disk for the next process, in JAX's own cache if one
        is set (JAX_COMPILATION_CACHE_DIR, or jax.config).

    Returns:
      the rows of results.jsonl, one measured accuracy each; `pandas.DataFrame(rows)` takes them.

    Raises:
      UserError: `config` is not a configuration, or does not fit the devices, data, model,
        directory or disk; or another process is running in the directory.
      DivergedError: a loss is not finite; earlier rows and checkpoints are kept.
      Interrupted: the process was asked to stop, and everything is saved.
    """
    if not isinstance(config, ExperimentConfig):
        raise UserError(
            f"config is {config!r:.60}: pass a configuration, such as mm.preset('quickstart') or "
            "mm.config.ExperimentConfig.from_file('runs/x/config.json')"
        )
    sweep = _as_sweep(sweep)
    if keep_compiled:
        keep_compiled_by_default()
    directory = RunDirectory(user_path(out, "out"), overwrite, resume=resume)
    given = given_sources(train, test)
    if given is not None:
        name = array_name(digest(given))
        scenario = replace(config.scenario, dataset=name, data_dir=None)
        config = replace(config, scenario=scenario)
    _check_same_arrays(directory, config)
    shown = as_progress(progress)

    def show(rows: Sequence[Row], scenario: str) -> None:
        picture, scales = directory.report / "accuracy.png", directory.scales()
        plot(rows, scenario, picture, scales)
        shown.say(table(rows, scenario, scales))
        shown.say(f"{picture} shows accuracy over tasks")

    try:
        with no_mesh():
            return runs_train.run(
                config, directory, shown, boards, command, sweep, show, given, allow_changed
            )
    except Interrupted as interruption:
        resuming = f"{directory.path} holds everything so far: the same call resumes it"
        raise Interrupted(interruption.signal, resuming) from None


def given_sources(train: Any, test: Any) -> tuple[Source, Source] | None:
    """Both splits as sources, None if neither is given.

    Raises:
      UserError: one of them is missing, or is not what `as_source` takes.
    """
    if train is None and test is None:
        return None
    if train is None or test is None:
        missing = "train" if train is None else "test"
        raise UserError(f"{missing} is missing: pass train and test together")
    return as_source(train, where="train"), as_source(test, where="test")


def as_progress(progress: Progress | bool) -> Progress:
    """Progress bars for True, no output for False."""
    if isinstance(progress, bool):
        return TerminalProgress() if progress else NullProgress()
    return progress


def _as_sweep(sweep: Any) -> SweepConfig | None:
    if sweep is None or isinstance(sweep, SweepConfig):
        return sweep
    rules = (sweep,) if isinstance(sweep, str) else sweep
    if not isinstance(rules, Sequence) or not all(isinstance(rule, str) for rule in rules):
        raise UserError(
            f"sweep is a {type(sweep).__name__}: pass names of rules, such as ['max_magnitude'], "
            "or mm.config.SweepConfig(rules=..., scales=...)"
        )
    return SweepConfig(tuple(rules))


def _check_same_arrays(directory: RunDirectory, config: ExperimentConfig) -> None:
    """Raises a UserError if the directory holds a run on passed images other than these."""
    path = directory.path / CONFIG
    if directory.overwrite or not path.is_file():
        return
    try:
        stored = ExperimentConfig.from_file(path).scenario.dataset
    except UserError:  # not a run's directory: `RunDirectory.holds` reports it
        return
    if is_arrays(stored) and stored != config.scenario.dataset:
        other = "other images than those" if is_arrays(config.scenario.dataset) else "images"
        raise UserError(
            f"{directory.path} holds a run of {other} passed as train and test: pass the same ones "
            "to resume it, choose another out, or replace it with overwrite=True"
        )
