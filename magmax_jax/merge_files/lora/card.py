"""The model card of a merged adapter."""

import re

from magmax_jax.merge_files.job import NO_MODEL
from magmax_jax.merge_files.lora.writer import Loss
from magmax_jax.merge_files.model_card import MADE_WITH, rule_of, task_rows, theta_0_row
from magmax_jax.merge_files.state import MergeHistory

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def adapter_card(
    history: MergeHistory, scale: float, base: str | None, rank: int, loss: Loss
) -> str:
    """README.md of a merged adapter, with the metadata that model hubs read."""
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
        f"{rule_of(history)} at scale {scale:g}: {scale:g} tau, where tau merges the task "
        f"vectors of {len(history.tasks)} LoRA adapters, in this order. Written as an adapter of "
        f"rank {rank}: {loss}.",
        "",
        "| | adapter | norm of its task vector | sha256 of its weights |",
        "|---|---|---|---|",
    ]
    if history.pretrained != NO_MODEL:
        lines.append(theta_0_row(history))
    lines += [*task_rows(history, [None] * len(history.tasks)), *MADE_WITH]
    return "\n".join(lines)
