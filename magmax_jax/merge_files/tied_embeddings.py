"""Tied embeddings: why a checkpoint may lack the output embedding that another one holds.

Where a model's `config.json` says `tie_word_embeddings`, its output embedding is its input
embedding; transformers then stores one of the two, other programs both.
"""

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles

OUTPUT_EMBEDDINGS = (
    "lm_head.weight",
    "embed_out.weight",
    "proj_out.weight",
    "lm_head.decoder.weight",
    "predictions.decoder.weight",
)
"""What architectures call it, at the end of its name."""


def why_missing(name: str, pretrained: TensorFiles, model: TensorFiles) -> str:
    """What to add to "`name` is missing" in `model`: nothing, or that it is tied and what to do."""
    if _is_output_embedding(name) and _ties(pretrained):
        # Keeping theta_0's would leave two that differ, which transformers then no longer ties.
        return (
            ": it is tied to the input embedding (tie_word_embeddings in config.json), of which "
            "theta_0 stores a copy: save theta_0 again with transformers' save_pretrained, which "
            "leaves the copy out"
        )
    if _is_output_embedding(name) and _ties(model):
        return (
            ": it is tied to the input embedding there (tie_word_embeddings in config.json), in "
            f"theta_0 it is not: keep theta_0's with --exclude {name}"
        )
    return ""


def why_unexpected(name: str, model: TensorFiles) -> str:
    """What to add to "`name` is not in theta_0": nothing, or that it is tied and what to do."""
    if _is_output_embedding(name) and _ties(model):
        return (
            ": it is a copy of the input embedding, to which it is tied (tie_word_embeddings in "
            "config.json): save this model again with transformers' save_pretrained, which leaves "
            "the copy out"
        )
    return ""


def _is_output_embedding(name: str) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in OUTPUT_EMBEDDINGS)


def _ties(files: TensorFiles) -> bool:
    try:
        config = read_object(files.directory / "config.json") or {}
    except UserError:
        return False
    # Models of several parts say it of their text model.
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    return any(part.get("tie_word_embeddings") is True for part in parts)
