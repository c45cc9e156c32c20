"""SigLIP's parameters and Hugging Face's tensors: one table, read in both directions."""

from magmax_jax.models.entries import (
    LINEAR,
    QKV_LINEAR,
    SCALAR,
    TABLE,
    Entry,
    Transform,
    blocks,
    norm,
    one,
    patches,
)

PROBE = Transform(lambda w: w[0].reshape(-1), lambda k: [k.reshape(1, 1, -1)])


def table(patch_size: int, vision_layers: int, text_layers: int) -> list[Entry]:
    """Every parameter of the model, in the order of the forward pass."""
    image, text = "vision_model", "text_model"
    return [
        one(
            "vision.patch_embedding.kernel",
            f"{image}.embeddings.patch_embedding.weight",
            patches(patch_size),
        ),
        one("vision.patch_embedding.bias", f"{image}.embeddings.patch_embedding.bias"),
        one("vision.position_embedding", f"{image}.embeddings.position_embedding.weight", TABLE),
        *blocks("vision.blocks", f"{image}.encoder.layers", vision_layers),
        *norm("vision.post_norm", f"{image}.post_layernorm"),
        one("vision.head.probe", f"{image}.head.probe", PROBE),
        one("vision.head.qkv.kernel", f"{image}.head.attention.in_proj_weight", QKV_LINEAR),
        one("vision.head.qkv.bias", f"{image}.head.attention.in_proj_bias"),
        *_linear("vision.head.out", f"{image}.head.attention.out_proj"),
        *norm("vision.head.norm", f"{image}.head.layernorm"),
        *_linear("vision.head.fc1", f"{image}.head.mlp.fc1"),
        *_linear("vision.head.fc2", f"{image}.head.mlp.fc2"),
        one("text.token_embedding", f"{text}.embeddings.token_embedding.weight", TABLE),
        one("text.position_embedding", f"{text}.embeddings.position_embedding.weight", TABLE),
        *blocks("text.blocks", f"{text}.encoder.layers", text_layers),
        *norm("text.final_norm", f"{text}.final_layer_norm"),
        *_linear("text.head", f"{text}.head"),
        one("logit_scale", "logit_scale", SCALAR),
        one("logit_bias", "logit_bias", SCALAR),
    ]


def _linear(path: str, name: str) -> list[Entry]:
    return [one(f"{path}.kernel", f"{name}.weight", LINEAR), one(f"{path}.bias", f"{name}.bias")]
