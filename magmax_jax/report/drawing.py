"""matplotlib settings for all our figures."""

import contextlib
import functools
import warnings
from collections.abc import Iterator

from magmax_jax.report.style import RC

OTHER_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Noto Sans Symbols2",
)
"""Fallback fonts for glyphs that the usual fonts lack, as installed on common systems."""


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's settings while a figure is drawn and saved.

    A class name may be in any script. Glyphs that no installed font has become boxes in a PNG; an
    SVG uses the reader's own fonts.
    """
    import matplotlib

    family = {"font.family": ["sans-serif", *_installed()]}
    with matplotlib.rc_context(RC | family), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


@functools.cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import get_font_names

    names = set(get_font_names())
    return tuple(font for font in OTHER_SCRIPTS if font in names)
