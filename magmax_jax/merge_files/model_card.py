"""The card of a merged model: its history, for readers and for model hubs."""

from collections.abc import Iterator, Sequence

from magmax_jax.errors import counted
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.hub_metadata import display_name, metadata
from magmax_jax.merge_files.state import MergeHistory

MADE_WITH = ["", "Made with magmax_jax (https://arxiv.org/abs/2407.06322).", ""]
"""How a card ends."""


def model_card(
    history: MergeHistory,
    scale: float,
    kept: Sequence[str],
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    taken_as: str = "",
) -> str:
    """README.md of the merged model, with the metadata that model hubs read.

    Models are named by hub id or the last part of their path, because cards get published.

    Args:
      history: of everything merged so far.
      scale: lambda.
      kept: names of tensors copied from theta_0.
      pretrained, models: of this merge; licence, language, tags and base models are carried over
        from their cards.
      taken_as: how the rule treats the tensors (`Plan.taken_as`).
    """
    before: list[TensorFiles | None] = [None] * (len(history.tasks) - len(models))
    sign = "-" if scale < 0 else "+"
    lines = [
        "---",
        metadata(pretrained, models),
        "---",
        "",
        "# Merged model",
        "",
        f"{rule_of(history)} at scale {scale:g}: theta_0 {sign} {abs(scale):g} tau, where tau "
        f"merges the task vectors of {counted(len(history.tasks), 'model')}, in this order.",
        "",
        "| | model | norm of its task vector | sha256 of its weights |",
        "|---|---|---|---|",
        theta_0_row(history, pretrained),
    ]
    lines += task_rows(history, [*before, *models])
    if taken_as:
        lines += ["", f"The rule {taken_as}."]
    if kept:
        lines += ["", f"Kept from theta_0, {counted(len(kept), 'tensor')}: {', '.join(kept[:5])}"]
        if len(kept) > 5:
            lines[-1] += ", ..."
    lines += MADE_WITH
    return "\n".join(lines)


def rule_of(history: MergeHistory) -> str:
    """The rule with its options, as code."""
    options = "".join(f", {key}={value}" for key, value in history.options.items())
    return f"`{history.rule}`{options}"


def theta_0_row(history: MergeHistory, pretrained: TensorFiles | None = None) -> str:
    """theta_0 in a card's table."""
    name = _name(history.pretrained, pretrained)
    return f"| theta_0 | `{name}` | | {history.sha256 or 'not computed'} |"


def task_rows(history: MergeHistory, opened: Sequence[TensorFiles | None]) -> Iterator[str]:
    """The merged models in a card's table: name, norm of the task vector, sha256.

    Args:
      opened: the models' files, None for one merged earlier.
    """
    for i, (task, files) in enumerate(zip(history.tasks, opened, strict=True), start=1):
        sha256 = task.sha256 or "not computed"
        yield f"| {i} | `{_name(task.source, files)}` | {task.norm:.4g} | {sha256} |"


def _name(source: str, files: TensorFiles | None) -> str:
    """A source's name, with the merged commit if it comes from the hub.

    Formatted as code, for a table cell.
    """
    name = display_name(source)
    commit = display_name(str(files.directory)) if files else ""
    shown = commit if "@" not in name and commit.startswith(f"{name}@") else name
    return " ".join(shown.split()).replace("|", "\\|").replace("`", "'")
