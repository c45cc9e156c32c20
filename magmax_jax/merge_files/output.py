"""The output of a merge: a directory with theta_0's file names, or one file of a given name."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import check_free, new_directory, new_file, refusing
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import DirectoryWriter, OneFileWriter, TensorSpecs
from magmax_jax.merge_files.plan import Plan

_KNOWN = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model|open_clip_model|open_clip_pytorch_model|adapter_model)"
    r"(?P<variant>\.[a-z]+\d+)?(?P<shard>-\d+-of-\d+)?\.safetensors"
)
"""File names under which libraries look for unsharded weights, with a variant (`.fp16`)."""


def is_file(output: Path) -> bool:
    """Whether the output is a single file, judging by its name, and not a directory."""
    return output.suffix == ".safetensors"


def stem(pretrained: TensorFiles, out_dtype: str | None = None) -> str:
    """Stem of the output's weight files: theta_0's, if that is a name libraries look for.

    Args:
      out_dtype: of the merged tensors; None if it is theta_0's, which a variant's name states.
    """
    known = _KNOWN.fullmatch(pretrained.files[0].name)
    if known is None:
        return "model"
    # Libraries disagree on the names of shard indices for variants.
    plain = out_dtype is not None or known["shard"] or known["variant"] is None
    return known["stem"] + ("" if plain else known["variant"])


def check(plan: Plan, output: Path) -> None:
    """Raises a UserError if `output` already exists, or cannot hold what is requested."""
    if is_file(output) and plan.job.lora_rank is not None:
        raise UserError(f"{output}: an adapter is a directory, so --output must name a directory")
    check_free(output)
    if is_file(output) and plan.companions is not None:
        raise UserError(
            f"--companions-from: {output} will be one file, with nothing beside it: "
            "name a directory as --output"
        )


@contextlib.contextmanager
def new_output(output: Path, then: Callable[[], None] | None = None) -> Iterator[Path]:
    """Where to write: a directory, or a file's name; it becomes `output` on success.

    Args:
      then: called once `output` is there; if it raises, `output` is withdrawn.

    Raises:
      UserError: `output` is not empty, or a disk operation fails.
    """
    if not is_file(output):
        with new_directory(output, then) as partial:
            yield partial
        return
    with refusing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with new_file(output, then) as partial:
            yield partial


def open_writer(plan: Plan, partial: Path, output: Path, tensors: TensorSpecs) -> DirectoryWriter:
    """Writes weights to the temporary place of `output`; raises like `DirectoryWriter`."""
    if is_file(output):
        return OneFileWriter(partial, tensors, plan.twins)
    return DirectoryWriter(
        partial,
        tensors,
        plan.job.shard_bytes,
        stem(plan.pretrained, plan.job.out_dtype),
        plan.twins,
    )
