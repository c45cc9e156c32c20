"""Fields of mergekit's recipes: those that are read, and why others are refused."""

from pathlib import Path

from magmax_jax.errors import UserError, meant

FIELDS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype")
REFUSED = {
    "slices": "layers are not cut or stacked here: list whole models under `models`",
    "modules": "parts of a model are not merged by different recipes here: list whole models under "
    "`models`, and choose tensors with --include",
    **dict.fromkeys(
        ("tokenizer_source", "tokenizer"),
        "vocabularies are not merged here: all models must have the same one; leave this out, and "
        "name the tokenizer to copy with --companions-from",
    ),
    "chat_template": "templates are copied, not written: leave this out, and name the model to "
    "copy from with --companions-from",
    **dict.fromkeys(
        ("experts", "gate_mode", "experts_per_token", "shared_experts", "residual_scale"),
        "mixtures of experts are not built here: use mergekit-moe",
    ),
    "random_seed": "mergekit takes it from the command line: give --seed",
    "name": "several recipes in one file are not read: give one file for each",
    "layer_range": "layers are not cut or stacked here: leave it out, all layers are merged",
    "lora": "give the adapter as a model of its own: its path or hub id",
}
"""Fields of mergekit's recipes that are not supported: why, and what to do."""
DTYPES = ("float32", "float16", "bfloat16")


def check_field(path: Path, field: str) -> None:
    """Raises a UserError if a recipe cannot have this field here."""
    if field in REFUSED:
        raise UserError(f"{path}: {field} is not supported: {REFUSED[field]}")
    if field not in FIELDS:
        raise UserError(
            f"{path}: {field!r} is not a field of a recipe: they are {', '.join(FIELDS)}"
            + meant(field, FIELDS)
        )
