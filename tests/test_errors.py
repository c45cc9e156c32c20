"""Exit codes and the one sentence that goes with them."""

import errno

import pytest

from magmax_jax.errors import DivergedError, UserError, exit_code


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (UserError("no such model"), 2, "error: no such model\n"),
        (DivergedError("the loss is nan"), 1, "error: the loss is nan\n"),
        (OSError(errno.ENOSPC, "No space left", "runs/a"), 2, "error: runs/a: No space left\n"),
        (KeyboardInterrupt(), 130, "interrupted: the same command starts it again\n"),
    ],
)
def test_every_end_has_its_code_and_one_line(raised, code, sentence, capsys):
    def command():
        raise raised

    assert exit_code(command) == code
    assert capsys.readouterr().err == sentence


def test_a_command_that_ends_well_says_nothing(capsys):
    assert exit_code(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bug", [ValueError("a bug"), OSError(errno.EBADF, "a bug too")])
def test_bugs_keep_their_stack_trace(bug):
    def command():
        raise bug

    with pytest.raises(type(bug)):
        exit_code(command)
