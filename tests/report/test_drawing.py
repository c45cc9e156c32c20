"""Figures whose words are of another script than the usual fonts have."""

import warnings

from magmax_jax.report.items import Figure
from magmax_jax.report.render import render


def test_a_letter_without_a_font_is_no_warning_and_stays_text_in_the_svg():
    figure = Figure("name", "title", "caption", [], lambda axes: axes.set_title("雪 ꙮ"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = render(figure)
    assert "雪 ꙮ" in picture.svg.decode()
