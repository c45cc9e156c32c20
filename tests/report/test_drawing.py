"""Figures with text in scripts that the usual fonts lack."""

import warnings

from magmax_jax.report.items import Figure
from magmax_jax.report.render import render


def test_missing_glyphs_do_not_warn_and_stay_text_in_the_svg():
    figure = Figure("name", "title", "caption", [], lambda axes: axes.set_title("雪 ꙮ"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = render(figure)
    assert "雪 ꙮ" in picture.svg.decode()
