"""What the generated pages take from the package."""

import re

import pytest

from magmax_jax.registry import DATA_SETS, METRICS, REGULARIZERS, RULES, SCENARIO_KINDS
from tests.docs.blocks import DOCS
from tools.docs.error_texts import error_texts
from tools.docs.markdown import docstring, prose

PROGRAM = """
def check(path, names, why=None):
    if why:
        raise UserError(f"{path.name} has no {', '.join(names)}: add {'one' if why else 'two'}")
    message = f"{path}: it is broken: fetch it again"
    if names:
        message = "there are no names: give at least one"
    require(names, f"train.{counted(3, 'name')} is too many: leave some out")

    def inner():
        raise ConfigError("seed is 3: it must be" " even" + " or zero")

    raise UserError(message) from None
    raise ValueError("this is a bug and not a sentence for users")
"""


def test_sentences_are_read_with_what_they_fill_in(tmp_path):
    (tmp_path / "io").mkdir()
    (tmp_path / "io" / "files.py").write_text(PROGRAM)
    found = error_texts(tmp_path)
    assert {text.file for text in found} == {"io/files.py"}
    assert sorted(text.text for text in found) == [
        "seed is 3: it must be even or zero",
        "there are no names: give at least one",
        "train.⟨number of names⟩ is too many: leave some out",
        "⟨name⟩ has no ⟨names, ...⟩: add one",
        "⟨name⟩ has no ⟨names, ...⟩: add two",
        "⟨path⟩: it is broken: fetch it again",
    ]


def test_sentences_of_every_package_are_on_the_page():
    page = (DOCS / "troubleshooting.md").read_text()
    for sentence in ("is not a preset: choose from", "must not be negative", "fetch it again"):
        assert sentence in page
    assert "### Others" not in page, "name the new package in tools/docs/troubleshooting.py"


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("rules.md", RULES),
        ("datasets.md", DATA_SETS),
        ("scenarios.md", SCENARIO_KINDS),
        ("scenarios.md", {name for name, spec in REGULARIZERS.items() if not spec.is_plain}),
    ],
)
def test_every_registered_value_has_a_full_row(page, table):
    lines = (DOCS / page).read_text().splitlines()
    for name in table:
        [row, *_] = [line for line in lines if re.match(rf"\| \[?`{name}`", line)]
        optional = {"datasets.md": {8}, "scenarios.md": {5}}.get(page, set())
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        empty = {place for place, cell in enumerate(cells, start=1) if not cell}
        assert empty <= optional, row


def test_every_metric_has_its_definition():
    page = (DOCS / "scenarios.md").read_text()
    assert all(f"{{ #{name} }}" in page for name in METRICS)


def test_docstrings_become_markdown():
    def documented():
        """Sums [a] and b_i.

            s = a * b     [exactly]

        Source: arXiv 2407.06322.

        Args:
          a: first, `x_[1]`,
            or none.

        >>> documented()
        """

    assert docstring(documented) == (
        "Sums \\[a] and b_i.\n\n```text\ns = a * b     [exactly]\n```\n\n"
        "Source: [arXiv 2407.06322](https://arxiv.org/abs/2407.06322).\n\n"
        "Args:\n\n- `a`: first, `x_[1]`, or none."
    )
    assert prose("2 * 3 < 7, _a_ and a_b") == "2 \\* 3 \\< 7, \\_a\\_ and a_b"
