"""Writes a merged adapter's directory, instead of a whole model's."""

from pathlib import Path

import numpy as np

from magmax_jax.merge_files.job import NO_MODEL
from magmax_jax.merge_files.lora.card import adapter_card
from magmax_jax.merge_files.lora.config import LoraConfig, read_config
from magmax_jax.merge_files.lora.writer import AdapterWriter
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.state import MergeHistory


def adapter_writer(plan: Plan, directory: Path, rank: int) -> AdapterWriter:
    """Writes the plan's merged tensors as an adapter's matrices into an empty directory."""
    return AdapterWriter(
        directory=directory,
        rank=rank,
        pretrained=plan.pretrained,
        models=plan.models,
        merged=plan.merged,
        dtype=np.dtype(plan.job.out_dtype or np.float32),
    )


def add_companions(plan: Plan, history: MergeHistory, writer: AdapterWriter, to: Path) -> str:
    """Writes configuration and model card beside the matrices; returns a line on their loss."""
    first = read_config(plan.models[0].directory)
    base = _base(plan, first)
    writer.write_config(first, base)
    loss = writer.loss()
    card = adapter_card(history, plan.scale, base, writer.rank, loss)
    (to / "README.md").write_text(card)
    return f"adapter of rank {writer.rank}: {loss}"


def _base(plan: Plan, first: LoraConfig | None) -> str | None:
    """The adapter's base model: a hub id given as theta_0, else what an adapter says."""
    given = plan.history.pretrained
    if given != NO_MODEL and not Path(given).expanduser().exists():
        return given
    return first.base if first else None
