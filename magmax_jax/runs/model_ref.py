"""Names of a run's models: `RUN`, `RUN:MODEL`."""

from pathlib import Path

from magmax_jax.runs.directory import CHECKPOINTS, CONFIG


def model_of_run(source: str) -> tuple[Path, str] | None:
    """What `RUN` or `RUN:MODEL` names, the run's directory and the model; None for anything else.

    Without a name it is `finetuned`.
    """
    words = source.split(":")  # task:3 has a colon of its own, and so may a path
    named = [(":".join(words[:i]), ":".join(words[i:])) for i in range(len(words) - 1, 0, -1)]
    for directory, name in ((source, "finetuned"), *named):
        run = Path(directory).expanduser()
        if directory and (run / CONFIG).is_file() and (run / CHECKPOINTS).is_dir():
            return run, name
    return None
