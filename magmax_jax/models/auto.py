"""Models of any family, found by the `model_type` of their `config.json`."""

from pathlib import Path

from flax import nnx
from huggingface_hub import try_to_load_from_cache
from jax.typing import DTypeLike

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.models.base import Model, ModelFamily, ModelShape, Towers
from magmax_jax.models.checkpoint import CONFIG, model_type, no_configuration
from magmax_jax.models.towers import needs_no_text_source, other_family
from magmax_jax.registry import MODEL_FAMILIES


def from_pretrained(
    source: str | Path,
    image_size: int | None = None,
    dtype: DTypeLike = "float32",
    text_source: str | Path | None = None,
) -> Model:
    """Loads a checkpoint of any family.

    Args:
      source: a directory, or a hub id such as "openai/clip-vit-base-patch16".
      image_size: pixels; None means the checkpoint's own.
      dtype: of the computation; parameters are float32.
      text_source: if the source is only an image tower, the two-tower model that it was fine-tuned
        from, which supplies the text tower.

    Raises:
      UserError: the source is missing or unreadable, or of no registered family; `text_source` is
        missing or superfluous; or as the family's own loading does.
    """
    directory = hub.locate(source)
    if not any(directory.glob("*.safetensors*")) and not (directory / hub.MSGPACK).exists():
        raise UserError(hub.no_weights(directory, {path.name for path in directory.glob("*")}))
    family = _family(directory)
    towers = _completed(family, directory, text_source)
    if towers is None or text_source is None:
        return family.load(directory, image_size, dtype)
    text = hub.locate(text_source)
    if _family(text) is not family:
        raise other_family(directory, text_source)
    return towers.load(directory, text, image_size, dtype)


def is_tower_alone(source: str | Path) -> bool:
    """Whether a directory or hub id holds only an image tower, and so needs a text tower.

    Raises:
      UserError: there is no such directory or hub id.
    """
    directory = hub.locate(source, weights=False)
    return any(_has_tower(family, directory) for family in MODEL_FAMILIES.values())


def known_shape(
    source: str, image_size: int | None = None, text_source: str | None = None
) -> tuple[ModelShape, str] | tuple[None, str]:
    """A model's shape without its weights; nothing is downloaded.

    Args:
      source: a directory, or a hub id, looked up in the cache and among published shapes.
      image_size: pixels; None means the checkpoint's own.
      text_source: as in `from_pretrained`.

    Returns:
      The shape and ""; or None and the reason why it is unknown.

    Raises:
      UserError: the directory's model is of no registered family, or does not take images of that
        size; or `text_source` is missing, superfluous, or does not fit.
    """
    directory = Path(source).expanduser()
    if not directory.is_dir():
        if source.count("/") != 1 or source[0] in "./~":
            return None, f"{source} is not a directory"
        cached = try_to_load_from_cache(source, CONFIG)
        directory = Path(cached).parent if isinstance(cached, str) else directory
    if directory.is_dir():
        family = _family(directory)
        towers = _completed(family, directory, text_source)
        if towers is None or text_source is None:
            shape = family.shape_of(directory)
        else:
            text, unknown = known_shape(text_source)
            if text is None:
                return None, unknown
            if MODEL_FAMILIES[text.model_type] is not family:
                raise other_family(directory, text_source)
            shape = towers.shape_of(directory, text)
    else:
        families = MODEL_FAMILIES.values()
        found = [family.published[source] for family in families if source in family.published]
        if not found:
            return None, f"{source} is not on this machine yet"
        shape = found[0]
    return (shape if image_size is None else shape.at_size(image_size)), ""


def abstract_model(shape: ModelShape) -> Model:
    """A model of that shape, with `jax.ShapeDtypeStruct`s for parameters."""
    family = MODEL_FAMILIES[shape.model_type]
    return nnx.eval_shape(lambda: family.init(shape, nnx.Rngs(0)))


def _family(directory: Path) -> ModelFamily:
    """The family of the model in a directory.

    Raises:
      UserError: it has no configuration, or one of an unknown kind of model.
    """
    path = directory / CONFIG
    name = model_type(directory)
    if isinstance(name, str) and name in MODEL_FAMILIES:
        return MODEL_FAMILIES[name]
    for family in MODEL_FAMILIES.values():
        if family.recognises(directory) or _has_tower(family, directory):
            return family
    if not path.exists():
        raise no_configuration(directory)
    families = " or ".join(repr(family) for family in MODEL_FAMILIES)
    raise UserError(
        f"{path}: model_type is {name!r}, not {families}: choose such a model with both towers"
    )


def _completed(
    family: ModelFamily, directory: Path, text_source: str | Path | None
) -> Towers | None:
    """How to complete the image tower in a directory; None without a text source.

    Raises:
      UserError: it is not just an image tower, so `text_source` is superfluous.
    """
    if text_source is not None and not _has_tower(family, directory):
        raise needs_no_text_source(directory, text_source)
    return None if text_source is None else family.towers


def _has_tower(family: ModelFamily, directory: Path) -> bool:
    """Whether a directory holds only an image tower of the family."""
    return family.towers is not None and family.towers.alone(directory)
