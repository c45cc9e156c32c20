"""Small synthetic SigLIP checkpoints, and tokenizers like those of both versions.

As in the published checkpoints, tokenizers give no attention mask, so padding is attended to.
"""

import string
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GemmaTokenizer, PreTrainedTokenizerFast

from tests.models.weights import blocks, filled, norm, write_checkpoint


def _tower(width: int, layers: int, heads: int, mlp: int, activation: str) -> dict:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "hidden_act": activation,
        "layer_norm_eps": 1e-6,
    }


CONFIGS = {
    # Like the first version: towers of one shape, so no extra projection.
    "siglip": {
        "model_type": "siglip",
        "vision_config": _tower(24, 2, 2, 40, "gelu_pytorch_tanh")
        | {"image_size": 32, "patch_size": 8},
        "text_config": _tower(24, 2, 2, 40, "gelu_pytorch_tanh")
        | {"max_position_embeddings": 24, "vocab_size": 60},
    },
    # Like SigLIP 2's giant (projected texts) and so400m (pixels left over beside the patches).
    "siglip2": {
        "model_type": "siglip",
        "vision_config": _tower(15, 3, 3, 28, "gelu") | {"image_size": 22, "patch_size": 4},
        "text_config": _tower(20, 2, 2, 24, "gelu")
        | {"max_position_embeddings": 64, "vocab_size": 300, "projection_size": 15},
    },
}
SIZES = {"siglip": (32, 16), "siglip2": (22, 36)}
"""Each checkpoint's image size, and a smaller or larger one."""


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of a transformers `SiglipModel` with its shape."""
    image, text = config["vision_config"], config["text_config"]
    d, m, patch = image["hidden_size"], image["intermediate_size"], image["patch_size"]
    head = "vision_model.head"
    found = {
        "logit_scale": (1,),
        "logit_bias": (1,),
        "vision_model.embeddings.patch_embedding.weight": (d, 3, patch, patch),
        "vision_model.embeddings.patch_embedding.bias": (d,),
        "vision_model.embeddings.position_embedding.weight": (
            (image["image_size"] // patch) ** 2,
            d,
        ),
        f"{head}.probe": (1, 1, d),
        f"{head}.attention.in_proj_weight": (3 * d, d),
        f"{head}.attention.in_proj_bias": (3 * d,),
        f"{head}.attention.out_proj.weight": (d, d),
        f"{head}.attention.out_proj.bias": (d,),
        f"{head}.mlp.fc1.weight": (m, d),
        f"{head}.mlp.fc1.bias": (m,),
        f"{head}.mlp.fc2.weight": (d, m),
        f"{head}.mlp.fc2.bias": (d,),
        "text_model.head.weight": (d, text["hidden_size"]),
        "text_model.head.bias": (d,),
    }
    found |= norm(f"{head}.layernorm", d) | norm("vision_model.post_layernorm", d)
    found |= blocks("vision_model", image) | blocks("text_model", text)
    d = text["hidden_size"]
    found["text_model.embeddings.token_embedding.weight"] = (text["vocab_size"], d)
    found["text_model.embeddings.position_embedding.weight"] = (text["max_position_embeddings"], d)
    return found | norm("text_model.final_layer_norm", d)


def weights(config: dict, dtype=np.float32) -> dict[str, np.ndarray]:
    """These tensors, filled with the same numbers on every machine."""
    return filled(shapes(config), dtype)


def ids(name: str) -> np.ndarray:
    """Three rows of token ids that fill the context."""
    text = CONFIGS[name]["text_config"]
    shape = 3, text["max_position_embeddings"]
    return np.random.RandomState(7).randint(0, text["vocab_size"], shape)


def unigram() -> PreTrainedTokenizerFast:
    """Like SigLIP's tokenizer: a unigram model; </s> ends and pads texts."""
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase, *string.digits]
    pieces += [f"\u2581{word}" for word in ("a", "photo", "of", "this", "is")]
    scores = [-float(len(pieces) - i) / 10 for i in range(len(pieces))]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )


def gemma() -> GemmaTokenizer:
    """Like SigLIP 2's tokenizer: Gemma's bytes and merges, an <eos>, padded with <pad>."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = {
        token: i for i, token in enumerate([*special, "\u2581", *string.ascii_letters, "."])
    }
    return GemmaTokenizer(
        vocab=vocabulary,
        merges=[],
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
        model_input_names=["input_ids"],
    )


TOKENIZERS = {"siglip": unigram, "siglip2": gemma}


def write(directory: Path, name: str, dtype=np.float32) -> Path:
    """Writes the named checkpoint with its tokenizer and image processor settings."""
    write_checkpoint(directory, CONFIGS[name], weights(CONFIGS[name], dtype))
    TOKENIZERS[name]().save_pretrained(directory)
    return directory
