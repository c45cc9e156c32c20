"""The model card of a merged adapter."""

import re
from pathlib import Path

from magmax_jax.merge_files.job import NO_MODEL
from magmax_jax.merge_files.lora.writer import Loss
from magmax_jax.merge_files.state import MergeHistory

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def adapter_card(
    history: MergeHistory, scale: float, base: str | None, rank: int, loss: Loss
) -> str:
    """README.md of a merged adapter, with the metadata that model hubs read."""
    options = "".join(f", {key}={value}" for key, value in history.options.items())
    lines = [
        "---",
        *([f"base_model: {base}"] if base and _HUB_ID.fullmatch(base) else []),
        "library_name: peft",
        "tags:",
        "- lora",
        "- merge",
        "- magmax",
        "---",
        "",
        "# Merged LoRA adapter",
        "",
        f"`{history.rule}`{options} at scale {scale:g}: {scale:g} tau, where tau merges the task "
        f"vectors of {len(history.tasks)} LoRA adapters, in this order. Written as an adapter of "
        f"rank {rank}: {loss}.",
        "",
        "| | adapter | norm of its task vector | sha256 of its weights |",
        "|---|---|---|---|",
    ]
    if history.pretrained != NO_MODEL:
        sha256 = history.sha256 or "not computed"
        lines.append(f"| theta_0 | `{_shown(history.pretrained)}` | | {sha256} |")
    for i, task in enumerate(history.tasks, start=1):
        sha256 = task.sha256 or "not computed"
        lines.append(f"| {i} | `{_shown(task.source)}` | {task.norm:.4g} | {sha256} |")
    lines += ["", "Made with magmax_jax (https://arxiv.org/abs/2407.06322).", ""]
    return "\n".join(lines)


def _shown(source: str) -> str:
    """A path's last part, which tells nothing of this machine; a hub id stays."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() or path.is_absolute() else source
