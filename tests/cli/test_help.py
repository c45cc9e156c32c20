"""`--help` and wrong flags are answered before anything slow is imported."""

import pytest

import experiments
from magmax_jax.cli.main import main
from magmax_jax.registry import COMMANDS
from tests.helpers.imports import SLOW, imported

LAUNCHERS = (
    "run", "evaluate", "analyse", "report", "watch", "table", "grid", "prepare", "export",
    "pretrain_tiny_clip",
)  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_help_imports_nothing_slow(launcher):
    assert not imported("-m", f"experiments.{launcher}", "--help") & SLOW


@pytest.mark.parametrize("words", ["--help", "merge --help", "inspect --help"])
def test_neither_does_help_of_the_program(words):
    assert not imported("-m", "magmax_jax", *words.split()) & SLOW


def test_neither_do_a_preset_s_fields_and_a_wrong_flag():
    run = ("-m", "experiments.run", "quickstart")
    assert not imported(*run, "--help") & SLOW
    assert not imported(*run, "--no-such-flag", code=2) & SLOW


def help_of(capsys, *words, **options) -> str:
    """What is printed, with spaces for line breaks."""
    try:
        assert main(words, **options) == 0
    except SystemExit as ended:
        assert ended.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_the_program_lists_its_commands(words, capsys):
    shown = help_of(capsys, *words)
    assert "magmax COMMAND" in shown
    for name, command in COMMANDS.items():
        assert f" {name} {command.summary} " in shown


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_names_the_program_as_the_user_started_it(name, capsys):
    shown = help_of(capsys, name, "--help")
    assert f"usage: magmax {name}" in shown and "experiments." not in shown
    if name in LAUNCHERS:
        shown = help_of(capsys, name, "--help", program=experiments.PROGRAM)
        assert f"usage: python -m experiments.{name}" in shown and "magmax run" not in shown


def test_an_unknown_command_is_one_sentence(capsys):
    assert main(["rum", "--fast"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 'rum' is no command: choose from run, watch, evaluate, ")
    assert error.count("\n") == 1
