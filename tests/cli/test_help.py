"""`--help` and wrong flags are answered before anything slow is imported."""

import pytest

from tests.helpers.imports import SLOW, imported

LAUNCHERS = (
    "run", "evaluate", "analyse", "report", "watch", "table", "grid", "prepare", "export",
    "pretrain_tiny_clip",
)  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_help_imports_nothing_slow(launcher):
    assert not imported("-m", f"experiments.{launcher}", "--help") & SLOW


def test_neither_do_a_preset_s_fields_and_a_wrong_flag():
    run = ("-m", "experiments.run", "quickstart")
    assert not imported(*run, "--help") & SLOW
    assert not imported(*run, "--no-such-flag", code=2) & SLOW
