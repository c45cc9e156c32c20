"""OpenCLIP's preprocessing as settings of a Hugging Face image processor.

Source: open_clip 3.3, transform.py, `image_transform` of an evaluation.
"""

from typing import Any

from PIL.Image import Resampling

from magmax_jax.errors import UserError
from magmax_jax.inputs.geometry import Exact, Geometry, LongSide, Resize, ShortSide
from magmax_jax.inputs.processor_settings import (
    CROP,
    OPENAI_MEAN,
    OPENAI_STD,
    read_settings,
    triple,
)

RESIZE_MODES: dict[str, Resize] = {
    "shortest": ShortSide(),
    "squash": Exact(),
    "longest": LongSide(),
}
INTERPOLATIONS = {
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "random": Resampling.BICUBIC,  # random only in training
}


def openclip_preprocessor(config: dict[str, Any]) -> dict[str, Any] | None:
    """The `preprocess_cfg` of an `open_clip_config.json` as a `preprocessor_config.json`.

    Missing or null values take OpenCLIP's defaults, which are OpenAI's. The size is the image
    tower's. If the margin of `shortest` is odd, the crop begins at half of it, rounded down as in
    transformers; OpenCLIP rounds half to even.

    Returns:
      None if the file has no preprocessing settings.

    Raises:
      UserError: it asks for something unsupported; the message names key and value.
    """
    values = config.get("preprocess_cfg") or {}
    if not isinstance(values, dict):
        raise UserError(f"preprocess_cfg is {values!r}: give an object, or leave it out")
    values = {key: value for key, value in values.items() if value is not None}
    if not values:
        return None
    if values.get("mode", "RGB") != "RGB":
        raise UserError(f"preprocess_cfg's mode is {values['mode']!r}: only 'RGB' is supported")
    resize = _chosen(values, "resize_mode", "shortest", RESIZE_MODES)
    resample = _chosen(values, "interpolation", "bicubic", INTERPOLATIONS)
    # The colour is visible only in padding, and only `longest` pads.
    fill = _grey(values.get("fill_color", 0)) if resize.pads(CROP) else 0
    settings = {
        **Geometry(resize, int(resample), fill).settings(_size(config)),
        "image_mean": list(triple("preprocess_cfg's mean", values.get("mean", OPENAI_MEAN))),
        "image_std": list(triple("preprocess_cfg's std", values.get("std", OPENAI_STD))),
    }
    read_settings(settings)
    return settings


def _grey(fill: Any) -> Any:
    """One number for a grey colour; other colours are returned unchanged."""
    grey = isinstance(fill, list) and len(fill) == 3 and fill[0] == fill[1] == fill[2]
    return fill[0] if grey else fill


def _chosen(values: dict[str, Any], key: str, default: str, known: dict[str, Any]) -> Any:
    value = values.get(key, default)
    if not isinstance(value, str) or value not in known:
        raise UserError(f"preprocess_cfg's {key} is {value!r}: give one of {', '.join(known)}")
    return known[value]


def _size(config: dict[str, Any]) -> int:
    size = ((config.get("model_cfg") or {}).get("vision_cfg") or {}).get("image_size")
    return size if isinstance(size, int) else CROP
