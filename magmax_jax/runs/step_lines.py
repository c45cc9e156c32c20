"""Lines of `metrics.jsonl`, one per step."""

from pathlib import Path

from magmax_jax.io import json_lines

_FIELDS = {
    "task": (int,),
    "step": (int,),
    "total_step": (int,),
    "loss": json_lines.NUMBER_OR_NONE,
    "seconds": json_lines.NUMBER,
}


def is_step(record: json_lines.Record) -> bool:
    """Whether a record has the fields of every step's line; it may have more."""
    return json_lines.has_fields(record, _FIELDS)


def read_steps(path: Path) -> list[json_lines.Record]:
    """The steps of a `metrics.jsonl`, up to the first invalid line."""
    return json_lines.read(path, is_step)
