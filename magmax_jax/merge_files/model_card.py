"""What accompanies merged weights: configuration, tokenizer, and a card with the history."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from magmax_jax.errors import UserError, counted
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.state import MergeHistory

WEIGHT_SUFFIXES = {".safetensors", ".bin", ".msgpack", ".h5", ".pt", ".pth", ".ckpt", ".onnx"}
_PIECE = 1 << 22


def copy_companions(pretrained: TensorFiles, directory: Path, out_dtype: str | None) -> None:
    """Copies theta_0's small files (configuration, tokenizer, preprocessor) beside the weights."""
    for path in sorted(pretrained.directory.iterdir()):
        weights = path.suffix in WEIGHT_SUFFIXES or path.name.endswith(".index.json")
        if path.is_file() and not weights and path.name != "README.md" and path.name[0] != ".":
            shutil.copyfile(path, directory / path.name)
    config = directory / "config.json"
    content = read_object(config)
    if out_dtype is not None and content is not None:
        content.pop("torch_dtype", None)
        config.write_text(json.dumps(content | {"dtype": out_dtype}, indent=2) + "\n")


def digest(files: TensorFiles) -> str:
    """sha256 of a checkpoint's weight files, one after another in the order of their names.

    Raises:
      UserError: one of them cannot be read.
    """
    # One buffer, large enough that this thread rarely asks for the interpreter's lock.
    total, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
    for path in sorted(files.files):
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    total.update(buffer[:count])
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from None
    return total.hexdigest()


def model_card(history: MergeHistory, scale: float, kept: Sequence[str]) -> str:
    """README.md of the merged model, with the metadata that model hubs read."""
    options = "".join(f", {key}={value}" for key, value in history.options.items())
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- merge",
        "- magmax",
        "---",
        "",
        "# Merged model",
        "",
        f"`{history.rule}`{options} at scale {scale:g}: theta_0 + {scale:g} tau, where tau merges "
        f"the task vectors of {counted(len(history.tasks), 'model')}, in this order.",
        "",
        "| | model | norm of its task vector | sha256 of its weights |",
        "|---|---|---|---|",
        f"| theta_0 | `{history.pretrained}` | | {history.sha256 or 'not computed'} |",
    ]
    for i, task in enumerate(history.tasks, start=1):
        lines.append(
            f"| {i} | `{task.source}` | {task.norm:.4g} | {task.sha256 or 'not computed'} |"
        )
    if kept:
        lines += ["", f"Kept from theta_0, {counted(len(kept), 'tensor')}: {', '.join(kept[:5])}"]
        if len(kept) > 5:
            lines[-1] += ", ..."
    lines += ["", "Made with magmax_jax (https://arxiv.org/abs/2407.06322).", ""]
    return "\n".join(lines)
