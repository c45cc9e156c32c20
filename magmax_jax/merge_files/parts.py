"""What a tensor's name says about its role in a model: buffers, heads, averaged copies.

Uses the names of transformers, timm, OpenCLIP and Lightning.
"""

import re
from collections.abc import Collection

from magmax_jax.io.safetensors.reader import Tensor

WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_model")
)
"""Words that PyTorch's wrappers (DDP, compile, FSDP) and peft add to names."""
CONTAINERS = WRAPPERS | {"model", "language_model"}
"""Leading words that only name the class that contains the model."""

_BUFFER = re.compile(
    r"(?:^|\.)(?:position_ids|token_type_ids|(?:original_)?inv_freq|rope\.freqs|(?:cos|sin)_cached"
    r"|masked_bias|relative_position_index|num_batches_tracked|attn_mask|causal_mask)$"
)
_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")
_AVERAGED = re.compile(r"^(?:ema|ema_\w+|\w+_ema|averaged_model)\.")
_HEADS = frozenset(
    """classifier cls score head heads qa_outputs pre_classifier classification_head pooler lm_head
    mlm_head vocab_transform vocab_layer_norm vocab_projector logits_proj sop_classifier predictions
    seq_relationship discriminator_predictions generator_predictions decode_head auxiliary_head
    segmentation_head class_labels_classifier bbox_predictor v_head value_head reward_head regressor
    cls_classifier distillation_classifier head_dist""".split()
)


def is_buffer(name: str, tensor: Tensor) -> bool:
    """Whether it holds indices, frequencies or a mask: computed from the shape, never learned."""
    # GPT-2's causal mask is named like a layer's bias, but has four axes.
    mask = len(tensor.shape) == 4 and _MASK.search(name)
    return bool(mask or _BUFFER.search(name))


def is_averaged(name: str) -> bool:
    """Whether it belongs to a moving average that training kept alongside the weights."""
    return bool(_AVERAGED.match(name))


def head(name: str, names: Collection[str]) -> str | None:
    """The head that a tensor belongs to ("classifier", "cls.predictions"), or None.

    Args:
      names: of the checkpoint. A language model's `lm_head` is its output embedding, without which
        it does not work; only an encoder's, which has a dense layer, counts as a head.
    """
    words = name.split(".")
    start = next((i for i, word in enumerate(words) if word not in CONTAINERS), 0)
    for i in (start + 1, start):
        found = ".".join(words[: i + 1])
        known = words[i : i + 1] and (words[i] in _HEADS or (i == start and words[i] == "fc"))
        if known and (words[i] != "lm_head" or f"{found}.dense.weight" in names):
            return found
    return None


def holds_part(part: str, names: Collection[str]) -> bool:
    """Whether one of the names is the part or is inside it."""
    return any(name == part or name.startswith(f"{part}.") for name in names)
