"""CLIP's parameters and Hugging Face's tensors: one table, read in both directions."""

from magmax_jax.models.entries import LINEAR, TABLE, Entry, blocks, norm, one, patches


def table(patch_size: int, vision_layers: int, text_layers: int) -> list[Entry]:
    """Every parameter of the model, in the order of the forward pass."""
    image, text = "vision_model", "text_model"
    return [
        one("vision.class_embedding", f"{image}.embeddings.class_embedding"),
        one(
            "vision.patch_embedding.kernel",
            f"{image}.embeddings.patch_embedding.weight",
            patches(patch_size),
        ),
        one("vision.position_embedding", f"{image}.embeddings.position_embedding.weight", TABLE),
        *norm("vision.pre_norm", f"{image}.pre_layrnorm"),  # the published spelling
        *blocks("vision.blocks", f"{image}.encoder.layers", vision_layers),
        *norm("vision.post_norm", f"{image}.post_layernorm"),
        one("vision.projection.kernel", "visual_projection.weight", LINEAR),
        one("text.token_embedding", f"{text}.embeddings.token_embedding.weight", TABLE),
        one("text.position_embedding", f"{text}.embeddings.position_embedding.weight", TABLE),
        *blocks("text.blocks", f"{text}.encoder.layers", text_layers),
        *norm("text.final_norm", f"{text}.final_layer_norm"),
        one("text.projection.kernel", "text_projection.weight", LINEAR),
        one("logit_scale", "logit_scale"),
    ]
