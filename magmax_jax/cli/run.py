"""One experiment: `magmax run PRESET [--field value ...]`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from magmax_jax.api.presets import PRESETS, paper
from magmax_jax.cli import flags
from magmax_jax.cli.command import Command
from magmax_jax.cli.engine import Engine
from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.errors import MAGMAX, Interrupted, Program, UserError
from magmax_jax.registry import COMMANDS

USAGE = """\
usage: {run} PRESET [--field value ...]
       {run} --config FILE [--field value ...]

presets
{presets}
Every field of a preset can be changed: {run} {first} --help
A run's config.json is such a FILE: it runs the same experiment again."""


VALIDATION = 0.1
"""Share of the training images held out when a scale is to be chosen."""


@dataclass(frozen=True)
class Launch:
    """What to run, and where its results go."""

    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    out: Path
    """Directory of the run: config.json, about.json, results.jsonl, metrics.jsonl, counts/,
    checkpoints/, report/."""
    overwrite: bool = False
    """Replace a run that is already in the directory."""
    preset: Literal["paper"] | None = None
    """paper: make the published code's unstated choices (warm-up, EWC's Fisher, TIES' 20 %, the
    average of domains, class names); fields that you set keep your values."""
    resume: bool = True
    """Resume a run of the same configuration that is already in the directory."""
    allow_changed: bool = False
    """Resume even if the files of the model or the data have changed."""
    boards: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log every step there; install tensorboardX or wandb yourself."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    engine: Annotated[Engine, tyro.conf.arg(name="")] = field(default_factory=Engine)


def parse(argv: list[str], program: Program = MAGMAX) -> Launch:
    """The command line as a launch.

    Raises:
      UserError: the preset or the file does not exist.
      SystemExit: a flag is wrong (code 2), or help was asked for (code 0).
    """
    first, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if first in ("-h", "--help"):
        presets = "".join(f"  {name:<12}{text}\n" for name, (text, _) in PRESETS.items())
        names = {"run": program.line("run"), "first": next(iter(PRESETS))}
        print(USAGE.format(presets=presets, **names))
        raise SystemExit(0)
    if first == "--config" or first.startswith("--config="):
        file, rest = (first[9:], rest) if "=" in first else ("".join(rest[:1]), rest[1:])
        if not file:
            raise UserError("--config needs a FILE, the config.json of a run")
        base, description = ExperimentConfig.from_file(file), f"The configuration in {file}."
        name = Path(file).parent.name or "config"
    elif first in PRESETS:
        description, base = PRESETS[first]
        name = first
    else:
        raise UserError(
            f"{first!r} is not a preset: choose from {', '.join(PRESETS)}, or --config FILE"
        )

    def read(base: ExperimentConfig) -> Launch:
        return flags.parse(
            Launch,
            rest,
            prog=program.line("run", first),
            description=description,
            default=Launch(base, out=Path("runs") / name),
        )

    launch = read(base)
    # The paper's choices depend on the method and the scenario, and the user's flags override
    # them; the same holds for the images that a sweep holds out to choose a scale.
    if launch.preset == "paper":
        base = paper(launch.config)
        launch = read(base)
    if launch.sweep.rules and first in PRESETS:
        held_out = replace(launch.config.scenario, validation=VALIDATION)
        launch = read(replace(launch.config, scenario=held_out))
    return launch


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Runs the experiment that the command line describes."""
    launch = parse(argv, program)
    launch.engine.start()
    # JAX takes seconds to import, and --help and flag errors do not need it.
    from magmax_jax.api import run

    _check_held_out(launch, program)
    command = program.line("run", *(word for word in argv if word != "--overwrite"))
    try:
        run(
            launch.config,
            launch.out,
            overwrite=launch.overwrite,
            resume=launch.resume,
            allow_changed=launch.allow_changed,
            sweep=launch.sweep,
            boards=launch.boards,
            command=command,
            keep_compiled=False,  # --cache sets the directory
        )
    except Interrupted as interruption:
        raise Interrupted(interruption.signal, f"resume with: {command}") from None


def _check_held_out(launch: Launch, program: Program) -> None:
    """Raises a UserError if a finished run to be swept differs only in holding out no images."""
    from magmax_jax.runs.directory import RunDirectory
    from magmax_jax.runs.model_ref import model_of_run

    if not launch.sweep.rules or launch.overwrite or not model_of_run(str(launch.out)):
        return
    differing = RunDirectory(launch.out).differs(launch.config)
    if len(differing) == 1 and differing[0].startswith("scenario.validation: 0.0 there"):
        sweep = program.line("evaluate", str(launch.out), "--sweep.rules", *launch.sweep.rules)
        raise UserError(
            f"{launch.out} contains this run, in which no images are held out for choosing a "
            f"scale: sweep it with {sweep}, or choose another --out"
        )


COMMANDS.register(
    "run", Command("Learns tasks one after another, merging and evaluating after each.", main)
)
