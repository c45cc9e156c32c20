"""`--help` and wrong flags are answered before anything slow is imported."""

import pytest

import experiments
from magmax_jax.cli.main import main
from magmax_jax.registry import COMMANDS
from tests.helpers.imports import answered

LAUNCHERS = (
    "run", "evaluate", "analyse", "report", "watch", "table", "grid", "prepare", "export",
    "pretrain_tiny_clip",
)  # fmt: skip


def test_help_and_wrong_flags_import_nothing_slow():
    helps = [f"experiments.{launcher} --help" for launcher in LAUNCHERS]
    helps += [f"magmax_jax {words}" for words in ("--help", "merge --help", "inspect --help")]
    helps += ["experiments.run quickstart --help"]
    wrong = ["experiments.run quickstart --no-such-flag", "magmax_jax merge --scale large"]
    found = answered(*helps, *wrong)
    assert found == dict.fromkeys(helps, (0, set())) | dict.fromkeys(wrong, (2, set()))


def help_of(capsys, *words, **options) -> str:
    """The printed text, with line breaks replaced by spaces."""
    try:
        assert main(words, **options) == 0
    except SystemExit as ended:
        assert ended.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_lists_the_commands(words, capsys):
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


def test_an_unknown_command_gives_a_one_sentence_error(capsys):
    assert main(["rum", "--fast"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 'rum' is not a command: choose from run, watch, evaluate, ")
    assert error.count("\n") == 1
