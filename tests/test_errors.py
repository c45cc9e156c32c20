"""Exit codes and their one-sentence messages."""

import errno
import pickle
import sys

import pytest

from magmax_jax.errors import DivergedError, Program, UserError, exit_code


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (UserError("no such model"), 2, "error: no such model\n"),
        (DivergedError("the loss is nan"), 1, "error: the loss is nan\n"),
        (OSError(errno.ENOSPC, "No space left", "runs/a"), 2, "error: runs/a: No space left\n"),
        (KeyboardInterrupt(), 130, "interrupted: the same command starts it again\n"),
    ],
)
def test_every_outcome_has_its_exit_code_and_one_line(raised, code, sentence, capsys):
    def command():
        raise raised

    assert exit_code(command) == code
    assert capsys.readouterr().err == sentence


def test_a_successful_command_prints_nothing(capsys):
    assert exit_code(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bug", [ValueError("a bug"), OSError(errno.EBADF, "a bug too")])
def test_bugs_keep_their_stack_trace(bug):
    def command():
        raise bug

    with pytest.raises(type(bug)):
        exit_code(command)


@pytest.mark.parametrize(
    ("program", "remedy"),
    [
        (Program(), "magmax prepare cifar100 --data-dir '/my data'"),
        (Program("python -m package."), "python -m package.prepare cifar100 --data-dir '/my data'"),
        (Program("python mine.py "), "python mine.py prepare cifar100 --data-dir '/my data'"),
    ],
)
def test_the_suggested_command_uses_the_name_that_the_user_ran(program, remedy, capsys):
    command = ("prepare", "cifar100", "--data-dir", "/my data")
    error = UserError("cifar100 is not prepared", command=command)
    error = pickle.loads(pickle.dumps(error))  # as received from another process

    def fail():
        raise error

    assert str(error) == "cifar100 is not prepared"  # a library does not name a program
    assert exit_code(fail, program) == 2
    assert capsys.readouterr().err == f"error: cifar100 is not prepared: run {remedy}\n"


def test_a_child_process_runs_the_program_of_its_parent():
    assert Program().argv("run", "a b") == [sys.executable, "-m", "magmax_jax", "run", "a b"]
    assert Program("python -m x.").argv("run") == [sys.executable, "-m", "x.run"]


def test_names_cannot_control_the_terminal():
    """Names that set titles, move the cursor, write to the clipboard, or reverse text direction."""
    evil = "a\x1b]52;c;aGk=\x07b\x9b2Jc\u202ed\re\x00\x7f"
    assert str(UserError(f"{evil}: choose another")) == (
        r"a\x1b]52;c;aGk=\x07b\x9b2Jc\u202ed\x0de\x00\x7f: choose another"
    )
    plain = "tabs\t, lines\n, accents é, 猫, \U0001f431 and a family \U0001f468\u200d\U0001f469"
    assert str(UserError(plain)) == plain
