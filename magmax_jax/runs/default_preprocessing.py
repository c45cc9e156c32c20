"""Models without image processor settings, which may have been trained with other ones."""

from magmax_jax.models import Model, preprocessing_of


def default_preprocessing(model: Model, name: str) -> list[str]:
    """A warning if nothing says how images were normalised when the model was trained.

    Args:
      name: the model as the user wrote it.
    """
    settings = model.preprocessor or {}
    kind = settings.get("image_processor_type", "CLIPImageProcessor")
    if settings.keys() - {"image_processor_type"}:
        return []
    found = preprocessing_of(model)
    mean, std = (", ".join(f"{x:.3g}" for x in values) for values in (found.mean, found.std))
    return [
        f"{name} has no image processor settings, so those of {kind} are used (mean {mean}, "
        f"std {std}); if it was trained with different ones, put its "
        "preprocessor_config.json beside its weights"
    ]
