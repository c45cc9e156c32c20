"""The output of a merge: a directory with theta_0's names of files, or one file of a given name."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from magmax_jax.io.atomic import new_directory, new_file, refusing
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import DirectoryWriter, OneFileWriter, TensorSpecs
from magmax_jax.merge_files.plan import Plan

_KNOWN = re.compile(
    r"((?:model|diffusion_pytorch_model|open_clip_model|open_clip_pytorch_model|adapter_model)"
    r"(?:\.[a-z]+\d+)?)(-\d+-of-\d+)?\.safetensors"
)
"""Names under which libraries look for weights, with a variant (`.fp16`), without shards."""


def is_file(output: Path) -> bool:
    """Whether the output is one file, as its name says, and not a directory."""
    return output.suffix == ".safetensors"


def stem(pretrained: TensorFiles) -> str:
    """What the output's weights are called: as theta_0's where a library looks for that."""
    known = _KNOWN.fullmatch(pretrained.files[0].name)
    if known is None or (known[2] and "." in known[1]):  # libraries disagree on such indices
        return known[1].partition(".")[0] if known else "model"
    return known[1]


@contextlib.contextmanager
def new_output(output: Path) -> Iterator[Path]:
    """Where to write: a directory, or a file's name; it becomes `output` if all goes well.

    Raises:
      UserError: `output` holds something, or the disk refuses.
    """
    if not is_file(output):
        with new_directory(output) as partial:
            yield partial
        return
    with refusing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with new_file(output) as partial:
            yield partial


def open_writer(plan: Plan, partial: Path, output: Path, tensors: TensorSpecs) -> DirectoryWriter:
    """Writes weights to the temporary place of `output`; raises as `DirectoryWriter` does."""
    if is_file(output):
        return OneFileWriter(partial, tensors)
    return DirectoryWriter(partial, tensors, plan.job.shard_bytes, stem(plan.pretrained))
