"""Settings of Hugging Face's image processors, read like transformers 5.24 reads them.

Null flags are off. Null sizes, mean, standard deviation, filter and factor mean the processor's
defaults, as in transformers 4; transformers 5.24 refuses them.
"""

import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from PIL.Image import Resampling

from magmax_jax.errors import UserError
from magmax_jax.inputs.geometry import (
    FILTERS,
    Exact,
    Geometry,
    LongSide,
    Resize,
    ShortSide,
    Unresized,
)

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
WHITE = 255.0
HALF = (0.5, 0.5, 0.5)

Triple = tuple[float, float, float]


class Processor(NamedTuple):
    """An image processor's defaults for settings missing from its file.

    Attributes:
      size: as in transformers' class.
      crops: whether the centre is cropped.
      resample: Pillow's number of the filter.
      mean, std: of pixels in [0, 1].
      square: whether a `size` that is a plain number means height and width, not the short side.
    """

    size: Mapping[str, int] = {"shortest_edge": 224}
    crops: bool = True
    resample: int = Resampling.BICUBIC
    mean: Triple = OPENAI_MEAN
    std: Triple = OPENAI_STD
    square: bool = False


_SQUASH = {"height": 224, "width": 224}
PROCESSORS: dict[str, Processor] = {
    "CLIPImageProcessor": Processor(),
    "ChineseCLIPImageProcessor": Processor(),
    "BitImageProcessor": Processor(),
    "SiglipImageProcessor": Processor(_SQUASH, crops=False, mean=HALF, std=HALF),
    "ViTImageProcessor": Processor(
        _SQUASH, False, Resampling.BILINEAR, mean=HALF, std=HALF, square=True
    ),
    "DeiTImageProcessor": Processor(
        {"height": 256, "width": 256}, mean=HALF, std=HALF, square=True
    ),
}
"""By `image_processor_type`, without the backend's name."""
CROP = 224
"""Side of the square that all of them crop if `crop_size` is not set."""


class Settings(NamedTuple):
    """A processor's computation: (pixel / white - mean) / std of images in a geometry.

    Attributes:
      size: the side of its squares, in pixels.
    """

    size: int
    geometry: Geometry
    mean: Triple
    std: Triple
    white: float


def read_settings(config: Mapping[str, Any], size: int | None = None) -> Settings:
    """The settings in the contents of a `preprocessor_config.json`.

    Args:
      size: of the model's images, in pixels. A processor that resizes to it and sets no crop is
        assumed to show all of that, although transformers would crop 224 x 224.

    Raises:
      UserError: they ask for something unsupported; the message names key and value.
    """
    processor = _processor(config)
    rescales = _flag(config, "do_rescale", True)
    factor = _given(config, "rescale_factor", 1 / WHITE) if rescales else 1.0
    if not (_is_number(factor) and factor > 0):
        raise UserError(
            f"rescale_factor is {factor!r}: give a positive number, such as {1 / WHITE}"
        )
    # 1/255, written with any number of digits, means division by 255.
    white = WHITE if abs(factor * WHITE - 1) < 1e-6 else 1 / factor
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _flag(config, "do_normalize", True):
        mean = triple("image_mean", _given(config, "image_mean", processor.mean))
        std = triple("image_std", _given(config, "image_std", processor.std))
        if 0 in std:
            raise UserError(f"image_std is {list(std)}: pixels are divided by it, so give no zeros")
    side, resize = _resize(config, processor, size)
    resample = _given(config, "resample", processor.resample)
    if isinstance(resample, bool) or resample not in FILTERS:
        known = ", ".join(f"{int(f)} ({f.name.lower()})" for f in FILTERS)
        raise UserError(f"resample is {resample!r}: give one of {known}")
    _refuse_padding(config, side)
    fill = _given(config, "fill_color", 0)
    if type(fill) is not int or not 0 <= fill <= 255:
        raise UserError(f"fill_color is {fill!r}: give one whole number from 0 to 255")
    return Settings(side, Geometry(resize, int(resample), fill), mean, std, white)


def triple(name: str, value: Any) -> Triple:
    """Three finite numbers, or one for all colours.

    Raises:
      UserError: `value` is neither; the message calls it `name`.
    """
    values = [value] * 3 if _is_number(value) else value
    if not (isinstance(values, list | tuple) and len(values) == 3 and all(map(_is_number, values))):
        raise UserError(f"{name} is {value!r}: give three numbers, for red, green and blue, or one")
    red, green, blue = map(float, values)
    return red, green, blue


def _processor(config: Mapping[str, Any]) -> Processor:
    kind = config.get("image_processor_type") or config.get("feature_extractor_type")
    if kind is None:
        return PROCESSORS["CLIPImageProcessor"]
    plain = str(kind).removesuffix("Fast").removesuffix("Pil")
    plain = plain.replace("FeatureExtractor", "ImageProcessor")
    if plain not in PROCESSORS:
        raise UserError(
            f"image_processor_type is {kind!r}: this type is not supported; give settings of one "
            f"of {', '.join(PROCESSORS)}"
        )
    return PROCESSORS[plain]


def _resize(
    config: Mapping[str, Any], processor: Processor, size: int | None
) -> tuple[int, Resize]:
    """The side of the square and how images are resized for it."""
    crops = _flag(config, "do_center_crop", processor.crops)
    crop = _crop(config["crop_size"]) if crops and config.get("crop_size") is not None else None
    if not _flag(config, "do_resize", True):
        if not crops:
            raise UserError(
                "do_resize and do_center_crop are both false: images would keep their own sizes, "
                "but the model takes squares of one size; set one of them to true"
            )
        return crop or CROP, Unresized()
    if config.get("resize_mode") == "longest":  # our own setting, see LongSide.settings
        return crop or CROP, LongSide()
    given = _given(config, "size", processor.size)
    edges = _edges(given, processor)
    if not crops:
        if len(set(edges.values())) > 1 or "shortest_edge" in edges:
            raise UserError(
                f"size is {given!r} with do_center_crop false: images would not all become "
                "squares, as the model takes them; set do_center_crop to true, or size to "
                '{"height": N, "width": N}'
            )
        crop = edges["height"]
    least = min(edges.values())
    shows_all = config.get("size") is not None and size in (None, least)
    side = crop or (least if shows_all else min(least, CROP))
    if "shortest_edge" in edges:
        return side, ShortSide(Fraction(least, side))
    return side, Exact((Fraction(edges["height"], side), Fraction(edges["width"], side)))


def _edges(size: Any, processor: Processor) -> dict[str, int]:
    """`size` as {"shortest_edge"} or {"height", "width"}."""
    if (found := _sides(size, processor.square)) is None:
        raise UserError(
            f'size is {size!r}: give {{"shortest_edge": N}} or {{"height": N, "width": N}}'
        )
    return found


def _crop(size: Any) -> int:
    found = _sides(size, square=True) or {}
    if "height" not in found or len(set(found.values())) > 1:
        raise UserError(
            f'crop_size is {size!r}: the model takes squares; give {{"height": N, "width": N}}'
        )
    return found["height"]


def _sides(size: Any, square: bool) -> dict[str, int] | None:
    if _is_side(size):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    elif isinstance(size, list | tuple) and len(size) == 2:
        size = dict(zip(("height", "width"), size, strict=True))
    if not isinstance(size, Mapping):
        return None
    found = {key: side for key, side in size.items() if side is not None}
    known = set(found) in ({"shortest_edge"}, {"height", "width"})
    return found if known and all(map(_is_side, found.values())) else None


def _refuse_padding(config: Mapping[str, Any], side: int) -> None:
    padded = config.get("pad_size")
    if config.get("do_pad") and padded not in (None, {"height": side, "width": side}):
        raise UserError(
            f"do_pad is true with pad_size {padded!r}: images are {side} x {side} by then, and "
            "padding them further is not supported; set do_pad to false"
        )


def _flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    return bool(config.get(key, default))


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    return default if value is None else value


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
