"""Figures as bytes, deterministically: the same figure gives the same bytes."""

import io
import re
from typing import NamedTuple

from magmax_jax.report.drawing import drawing
from magmax_jax.report.items import Figure
from magmax_jax.report.style import DARK

DPI = 200
METADATA = ("Creator", "Date", "Format", "Type")
"""Metadata of an SVG file about its creation: left out."""


class Picture(NamedTuple):
    """A drawn figure: an SVG that follows the reader's dark mode, and a light PNG.

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
        canvas.set_layout_engine("none")  # the layout is already done
        canvas.savefig(svg, format="svg", metadata=dict.fromkeys(METADATA))
        width, height = canvas.get_size_inches()
    size = round(96 * width), round(96 * height)
    return Picture(_short(_adaptive(svg.getvalue())), png.getvalue(), size)


def _adaptive(svg: bytes) -> bytes:
    """Adds rules to the SVG's style sheet that swap the theme's colours in dark mode."""
    rules = "".join(
        f'[style*="{what}: {light}"] {{{what}: {dark} !important}}\n'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    rules = f"\n@media screen and (prefers-color-scheme: dark) {{\n{rules}}}\n</style>"
    return svg.replace(b"</style>", rules.encode(), 1)


def _short(svg: bytes) -> bytes:
    """Removes indentation, states the font once, and rounds paths to a hundredth of a point."""
    fonts = re.search(rb"font-family: [^;\"]*;? ?", svg)
    if fonts:
        family = b"text {" + fonts[0].strip(b"; ") + b"}\n</style>"
        svg = svg.replace(fonts[0], b"").replace(b"</style>", family, 1)
    svg = re.sub(rb"\n\s*", b"\n", svg)
    short = re.compile(rb"(\.\d\d)\d+")
    return re.sub(rb' d="[^"]*"', lambda path: short.sub(rb"\1", path[0]), svg)
