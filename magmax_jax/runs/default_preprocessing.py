"""Models that came without settings of an image processor, whose own may have been others."""

from magmax_jax.models import Model, preprocessing_of


def default_preprocessing(model: Model, name: str) -> list[str]:
    """A sentence if nothing says how the model's images were normalised in its training.

    Args:
      name: what the user calls the model.
    """
    settings = model.preprocessor or {}
    kind = settings.get("image_processor_type", "CLIPImageProcessor")
    if settings.keys() - {"image_processor_type"}:
        return []
    found = preprocessing_of(model)
    mean, std = (", ".join(f"{x:.3g}" for x in values) for values in (found.mean, found.std))
    return [
        f"{name} came without settings of an image processor: those of {kind} are taken (mean "
        f"{mean}, deviation {std}); if it was trained with others, put its "
        "preprocessor_config.json beside its weights"
    ]
