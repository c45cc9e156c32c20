"""CSV that spreadsheets display without evaluating formulas."""

import csv
import io

import pytest

from magmax_jax.report.csv_text import csv_text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cat", "@name", "\tx"])
def test_names_that_look_like_formulas_are_text(name):
    head, line = csv.reader(io.StringIO(csv_text([["class", "accuracy"], [name, -0.25]])))
    assert head == ["class", "accuracy"]
    assert line == [f"'{name}", "-0.25"]  # a number stays one


def test_other_cells_are_unchanged():
    cells = ["a=b", "it's", 'say "x"', "1,5", "two\nlines", "", 0.1 + 0.2, 7, None]
    (found,) = csv.reader(io.StringIO(csv_text([cells])))
    assert found == [*cells[:6], "0.30000000000000004", "7", ""]


def test_a_carriage_return_does_not_end_the_line():
    lines = list(csv.reader(io.StringIO(csv_text([["a\rb", "c\r\nd"], ["e", "f"]]))))
    assert lines == [["a\nb", "c\nd"], ["e", "f"]]
