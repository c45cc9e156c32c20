"""TFDS builders by name, and the messages for those that cannot be loaded."""

import importlib
import re
from pathlib import Path

import tensorflow_datasets as tfds

from magmax_jax.data import tfds_internals
from magmax_jax.data.catalogue import facts_of, find
from magmax_jax.errors import UserError


def builder_of(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """`tfds.builder`, including builders that TFDS lacks (`FromTfds.module`)."""
    facts = facts_of(name)
    if facts and facts.module:
        importlib.import_module(facts.module)
    with tfds_internals.without_bucket():
        return tfds.builder(name, data_dir=data_dir)


def why(name: str, error: Exception) -> str:
    """The reason, in one line, why `tfds.builder(name)` failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    base, _, version = name.partition(":")
    base = base.split("/")[0]
    if version and not re.match(r"(\d+|\*)(\.(\d+|\*)){2}", version):
        return f"{version!r} is not a version such as 1.0.0"
    if any("BuilderConfig" in line for line in lines):  # TFDS lists only similar names
        configs = tfds.builder_cls(base).builder_configs
        return f"{base} has {'the configs ' + ', '.join(configs) if configs else 'no configs'}"
    # The first part describes the call of the builder.
    return (
        re.sub(r'^(\w+: )?Failed to construct .*}": ', "", lines[0])
        if lines
        else type(error).__name__
    )


def info_damaged(name: str, data_dir: str | None, error: Exception) -> UserError:
    """The error for a prepared data set whose dataset_info.json cannot be read."""
    folder = Path(data_dir or tfds.core.constants.DATA_PATH).expanduser() / name.split(":")[0]
    return UserError(
        f"{name}: its dataset_info.json is damaged ({why(name, error)}): remove {folder} and "
        "prepare it again",
        command=prepare_command(name, data_dir),
    )


def prepare_command(name: str, data_dir: str | None) -> tuple[str, ...]:
    """The words of the command that prepares a builder's data set, which has our name there."""
    known, version = find(name), "".join(name.partition(":")[1:])
    place = ("--data-dir", data_dir) if data_dir else ()
    return ("prepare", known.name + version if known else name, *place)
