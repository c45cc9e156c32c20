"""From an image of any size to a square: its resized side lengths, and which part is shown.

An image is resized, then its centre is cropped, or padded if it is smaller. Edges are in units of
the square's side, so that one geometry serves every image size: 256 -> 224 is 8/7. Nothing here
needs JAX: lengths may be ints on the host or int arrays on devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, Protocol

from PIL.Image import Resampling

FILTERS = (Resampling.LANCZOS, Resampling.BILINEAR, Resampling.BICUBIC, Resampling.HAMMING)
"""Without nearest and box, whose choice of pixels depends on float64 rounding at ties."""

Length = Any
"""An int, or int32 (b,): a side of an image, or of b images, in pixels."""


class Resize(Protocol):
    """Determines the side lengths of a resized image."""

    shows_all: ClassVar[bool]
    """Whether evaluation sees the whole image; training then trims nothing."""
    not_saved: ClassVar[str]
    """A sentence on what transformers has no setting for; "" if `settings` are complete."""

    def length(self, size: int, axis: int, length: Length, sides: "Sides") -> Length:
        """The resized length of one side.

        Args:
          size: the side of the square, in pixels.
          axis: 0 for the height, 1 for the width.
          length: the side's own length.
          sides: both sides of the image.
        """
        ...

    def margin(self, excess: Length) -> Length:
        """How many of `excess` pixels are cropped at the top or left; negative if padded."""
        ...

    def pads(self, size: int) -> bool:
        """Whether a resized image may be smaller than the square."""
        ...

    def settings(self, size: int) -> dict[str, Any]:
        """The equivalent settings of a Hugging Face image processor."""
        ...


class Sides(NamedTuple):
    """The short and the long side of an image, or of b images."""

    short: Length
    long: Length


def _edge(ratio: Fraction, size: int) -> int:
    return max(1, round(ratio * size))


def _cropped(size: int) -> dict[str, Any]:
    return {"do_center_crop": True, "crop_size": {"height": size, "width": size}}


class _RoundsDown:
    """The margin is half the excess, rounded down, as in transformers' PIL image processors."""

    not_saved: ClassVar[str] = ""

    def margin(self, excess: Length) -> Length:
        return excess // 2


@dataclass(frozen=True)
class ShortSide(_RoundsDown):
    """The short side becomes `edge` sides of the square; keeps the aspect ratio (CLIP)."""

    edge: Fraction = Fraction(1)
    shows_all: ClassVar[bool] = False

    def length(self, size: int, axis: int, length: Length, sides: Sides) -> Length:
        return _edge(self.edge, size) * length // sides.short

    def pads(self, size: int) -> bool:
        return _edge(self.edge, size) < size

    def settings(self, size: int) -> dict[str, Any]:
        edge = {"shortest_edge": _edge(self.edge, size)}
        return {"do_resize": True, "size": edge} | _cropped(size)


@dataclass(frozen=True)
class Exact(_RoundsDown):
    """Height and width become `edges` sides of the square, ignoring aspect (SigLIP, squash)."""

    edges: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1))
    shows_all: ClassVar[bool] = True

    def length(self, size: int, axis: int, length: Length, sides: Sides) -> Length:
        return _edge(self.edges[axis], size)

    def pads(self, size: int) -> bool:
        return any(_edge(edge, size) < size for edge in self.edges)

    def settings(self, size: int) -> dict[str, Any]:
        height, width = (_edge(edge, size) for edge in self.edges)
        crop = {"do_center_crop": False} if height == width == size else _cropped(size)
        return {"do_resize": True, "size": {"height": height, "width": width}} | crop


@dataclass(frozen=True)
class LongSide:
    """The long side becomes the square's, and the rest is padded: OpenCLIP's `longest`.

    OpenCLIP rounds the short side to the nearest integer, halves to even, and pads less at the top
    and left. transformers has no setting for it: `settings` contain the closest one, which may be
    off by one pixel and pads with black, and `resize_mode`, from which we read it back.
    """

    shows_all: ClassVar[bool] = True
    not_saved: ClassVar[str] = (
        "images are padded to squares (OpenCLIP's resize_mode longest), which transformers cannot "
        "do in the same way: the image processor of an exported model pads with black, up to one "
        "pixel apart"
    )

    def length(self, size: int, axis: int, length: Length, sides: Sides) -> Length:
        doubled = 2 * size * length + sides.long
        up = doubled // (2 * sides.long)
        even = up - (doubled % (2 * sides.long) == 0) * (up % 2)
        return even + (even == 0)

    def margin(self, excess: Length) -> Length:
        return -(-excess // 2)

    def pads(self, size: int) -> bool:
        return True

    def settings(self, size: int) -> dict[str, Any]:
        edges = {"shortest_edge": size, "longest_edge": size}
        return {"do_resize": True, "size": edges, "resize_mode": "longest"} | _cropped(size)


@dataclass(frozen=True)
class Unresized(_RoundsDown):
    """Images keep their size; the centre is cropped, or padded (`do_resize: false`)."""

    shows_all: ClassVar[bool] = False

    def length(self, size: int, axis: int, length: Length, sides: Sides) -> Length:
        return length

    def pads(self, size: int) -> bool:
        return True

    def settings(self, size: int) -> dict[str, Any]:
        return {"do_resize": False} | _cropped(size)


class Placed(NamedTuple):
    """One axis of an image on its square.

    Attributes:
      length: of the resized image, in pixels.
      start: where the square begins in it; negative if padded.
    """

    length: Length
    start: Length


@dataclass(frozen=True)
class Geometry:
    """How images become squares; hashable, and needs no JAX.

    Attributes:
      resize: determines the resized size.
      resample: the filter, by Pillow's number (`PIL.Image.Resampling`).
      fill: grey level in [0, 255] of padding.
    """

    resize: Resize = ShortSide()
    resample: int = int(Resampling.BICUBIC)
    fill: int = 0

    def placed(
        self,
        size: int,
        height: Length,
        width: Length,
        least: Callable[[Length, Length], Length],
    ) -> tuple[Placed, Placed]:
        """The placement of images of (height, width) on a square of `size`: rows, columns.

        Args:
          least: the smaller of two lengths: `min`, or `jnp.minimum` for arrays.
        """
        short = least(height, width)
        sides = Sides(short, height + width - short)
        rows, columns = (
            self.resize.length(size, axis, length, sides)
            for axis, length in enumerate((height, width))
        )
        margin = self.resize.margin
        return Placed(rows, margin(rows - size)), Placed(columns, margin(columns - size))

    def settings(self, size: int) -> dict[str, Any]:
        """The equivalent settings of a Hugging Face image processor, for squares of `size`.

        Only OpenCLIP supports a `fill` other than black: transformers pads with black.
        """
        fill = {"fill_color": self.fill} if self.fill else {}
        return self.resize.settings(size) | {"resample": self.resample} | fill


CLIPS = Geometry()
"""CLIP's geometry: the short side is resized (bicubic) and the centre is cropped."""
