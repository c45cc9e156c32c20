"""Models of any family, found by the `model_type` of their `config.json`."""

from pathlib import Path

from flax import nnx
from huggingface_hub import try_to_load_from_cache
from jax.typing import DTypeLike

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.json_files import read_object
from magmax_jax.models.base import Model, ModelFamily, ModelShape
from magmax_jax.models.checkpoint import CONFIG, no_configuration
from magmax_jax.registry import MODEL_FAMILIES


def from_pretrained(
    source: str | Path, image_size: int | None = None, dtype: DTypeLike = "float32"
) -> Model:
    """Loads a checkpoint of whichever family it is.

    Args:
      source: a directory, or a hub id such as "openai/clip-vit-base-patch16".
      image_size: pixels; None means the checkpoint's own.
      dtype: of the computation; parameters are float32.

    Raises:
      UserError: the source is missing or unreadable, or of no registered family; and as the
        family's own loading does.
    """
    directory = hub.locate(source)
    if not any(directory.glob("*.safetensors*")) and not (directory / hub.MSGPACK).exists():
        raise UserError(hub.no_weights(directory, {path.name for path in directory.glob("*")}))
    return _family(directory).load(directory, image_size, dtype)


def known_shape(
    source: str, image_size: int | None = None
) -> tuple[ModelShape, str] | tuple[None, str]:
    """A model's shape without its weights; nothing is downloaded.

    Args:
      source: a directory, or a hub id, whose `config.json` may be cached and whose shape may be
        published.
      image_size: pixels; None means the checkpoint's own.

    Returns:
      The shape and ""; or None and the reason why it is not known.

    Raises:
      UserError: the directory holds a model of no registered family, or one that does not take
        images of that size.
    """
    directory = Path(source).expanduser()
    if not directory.is_dir():
        if source.count("/") != 1 or source[0] in "./~":
            return None, f"{source} is no directory"
        cached = try_to_load_from_cache(source, CONFIG)
        directory = Path(cached).parent if isinstance(cached, str) else directory
    if directory.is_dir():
        shape = _family(directory).shape_of(directory)
    else:
        families = MODEL_FAMILIES.values()
        found = [family.published[source] for family in families if source in family.published]
        if not found:
            return None, f"{source} is not on this machine yet"
        shape = found[0]
    return (shape if image_size is None else shape.at_size(image_size)), ""


def abstract_model(shape: ModelShape) -> Model:
    """The model of that shape, with `jax.ShapeDtypeStruct`s for parameters."""
    family = MODEL_FAMILIES[shape.model_type]
    return nnx.eval_shape(lambda: family.init(shape, nnx.Rngs(0)))


def _family(directory: Path) -> ModelFamily:
    """The family of the model in a directory.

    Raises:
      UserError: it has no configuration, or that of another kind of model.
    """
    path = directory / CONFIG
    config = read_object(path)
    name = (config or {}).get("model_type")
    if isinstance(name, str) and name in MODEL_FAMILIES:
        return MODEL_FAMILIES[name]
    for family in MODEL_FAMILIES.values():
        if family.recognises(directory):
            return family
    if config is None:
        raise no_configuration(directory)
    families = " or ".join(repr(family) for family in MODEL_FAMILIES)
    raise UserError(
        f"{path}: model_type is {name!r}, not {families}: choose such a model with both towers"
    )
