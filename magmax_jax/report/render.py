"""Figures as bytes: the same figure gives the same ones."""

import io
import re
from typing import NamedTuple

from magmax_jax.report.drawing import drawing
from magmax_jax.report.items import Figure
from magmax_jax.report.style import DARK

DPI = 200
METADATA = ("Creator", "Date", "Format", "Type")
"""What an SVG file would say of its making: left out."""


class Picture(NamedTuple):
    """A figure drawn: SVG, which is dark where its reader's screen is, and PNG, which is light.

    Attributes:
      size: width and height in CSS pixels.
    """

    svg: bytes
    png: bytes
    size: tuple[int, int]


def render(figure: Figure) -> Picture:
    """Draws a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with drawing():
        canvas = Canvas(figsize=figure.size, layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        figure.draw(axes)
        png, svg = io.BytesIO(), io.BytesIO()
        canvas.savefig(png, format="png", dpi=DPI)
        canvas.set_layout_engine("none")  # it is laid out by now
        canvas.savefig(svg, format="svg", metadata=dict.fromkeys(METADATA))
        width, height = canvas.get_size_inches()
    size = round(96 * width), round(96 * height)
    return Picture(_short(_adaptive(svg.getvalue())), png.getvalue(), size)


def _adaptive(svg: bytes) -> bytes:
    """Adds to the drawing's own style sheet what exchanges the theme's colours on dark screens."""
    rules = "".join(
        f'[style*="{what}: {light}"] {{{what}: {dark} !important}}\n'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    rules = f"\n@media screen and (prefers-color-scheme: dark) {{\n{rules}}}\n</style>"
    return svg.replace(b"</style>", rules.encode(), 1)


def _short(svg: bytes) -> bytes:
    """Without indentation, the font given once, and paths to a hundredth of a point."""
    fonts = re.search(rb"font-family: [^;\"]*;? ?", svg)
    if fonts:
        family = b"text {" + fonts[0].strip(b"; ") + b"}\n</style>"
        svg = svg.replace(fonts[0], b"").replace(b"</style>", family, 1)
    svg = re.sub(rb"\n\s*", b"\n", svg)
    short = re.compile(rb"(\.\d\d)\d+")
    return re.sub(rb' d="[^"]*"', lambda path: short.sub(rb"\1", path[0]), svg)
