"""The card of a model exported from a run, for readers and for the hub."""

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files.hub_metadata import TAGS, display_name, metadata
from magmax_jax.merge_files.model_card import MADE_WITH
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.model_ref import ModelRef

_MERGE, _MAGMAX = TAGS


def export_card(config: ExperimentConfig, ref: ModelRef, dtype: str) -> str:
    """README.md of an exported model.

    Names no directory except by the last part of its path, because cards get published. Licence,
    language and tags are carried over from theta_0's own card.

    Args:
      config: the run's.
      dtype: of the weights.
    """
    relation, tags = ("merge", TAGS) if ref.is_merge else ("finetune", (_MAGMAX,))
    try:
        front = metadata(open_tensors(config.model.source), [], relation, tags)
    except UserError:  # theta_0 is not stored as safetensors
        front = f"tags:\n- {_MAGMAX}"
    scenario = config.scenario
    names = SCENARIO_KINDS[scenario.kind].data(scenario)
    data = ", ".join(map(_data_name, [names] if isinstance(names, str) else names))
    lines = [
        "---",
        front,
        "---",
        "",
        "# Merged model" if ref.is_merge else "# Fine-tuned model",
        "",
        f"`{ref}` of a continual-learning run that starts from "
        f"`{display_name(config.model.source)}`.",
        "",
        "| setting | value |",
        "|---|---|",
        f"| data | {data} |",
        f"| kind of tasks | {scenario.kind} |",
        f"| method | {'joint' if config.method.joint else config.method.start_title} |",
        f"| seed | {config.seed} |",
        f"| dtype | {dtype} |",
        *MADE_WITH,
    ]
    return "\n".join(lines)


def _data_name(dataset: str) -> str:
    """A data set's name, or the last part of a folder's path."""
    prefix, colon, path = dataset.partition(":")
    return f"{prefix}:{display_name(path)}" if colon else dataset
