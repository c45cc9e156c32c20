"""How a command ends early without a stack trace, and helpers for messages."""

import contextlib
import difflib
import errno
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_REFUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EIO, errno.ESTALE),
    # Network file systems: Python repeats an interrupted write, but not a rename or mkdir.
    *(errno.EINTR, errno.ETIMEDOUT, errno.EBUSY),
}
_REMEDIES = {
    errno.ENAMETOOLONG: ": a name has at most 255 bytes, and a path 4,095; choose a shorter one"
}


@dataclass(frozen=True)
class Program:
    """How the user started the program, so that messages name commands that the user can type.

    Attributes:
      prefix: text before a command's name, such as "magmax " or "python -m package.".

    >>> Program().line("report", "runs/my run")
    "magmax report 'runs/my run'"
    >>> Program("python mine.py ").argv("run", "class")[1:]
    ['mine.py', 'run', 'class']
    """

    prefix: str = "magmax "

    def line(self, *words: str) -> str:
        """A command and its arguments, quoted for a shell."""
        return f"{self.prefix}{shlex.join(words)}"

    def argv(self, *words: str) -> list[str]:
        """The same for a child process, run by this process's interpreter."""
        first, *rest = shlex.split(self.line(*words))
        module = [] if first.startswith("python") else ["-m", "magmax_jax"]
        return [sys.executable, *module, *rest]


MAGMAX = Program()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things, in words.

    >>> counted(1, "model"), counted(2, "class"), counted(12345, "entry", "entries")
    ('1 model', '2 classes', '12,345 entries')
    """
    if number != 1:
        noun = plural or noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun}"


def some(names: Sequence[str], shown: int = 3) -> str:
    r"""The first few names, on one line, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"]), some(["a", "b"], shown=1)
    ('a, b, c and 2 more', 'a and 1 more')
    >>> print(some(["one\nof two lines"]))
    one\nof two lines
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(name.replace("\n", r"\n") for name in names[:shown]) + more


def meant(word: str, known: Iterable[str], before: str = "") -> str:
    """What to add to a message about an unknown word: the nearest known one, or nothing.

    >>> meant("lamda", ["lambda", "scale"]), meant("x", ["lambda"])
    (' (did you mean lambda?)', '')
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {before}{near[0]}?)" if near else ""


def capped(lines: Sequence[str], most: int) -> list[str]:
    """The lines, truncated to `most`; if any are cut, the last line counts them.

    >>> capped(["a", "b", "c", "d"], 3)
    ['a', 'b', 'and 2 more']
    """
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"and {len(lines) - most + 1:,} more"]


_RAW = {
    # C0 and C1 except tabs and newlines, and characters that change the writing direction.
    *(set(range(0x20)) - {0x09, 0x0A}),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _RAW}


def harmless(text: str) -> str:
    r"""A text with control characters escaped, safe for a terminal; for names of files and classes.

    >>> print(harmless("a\x1b]0;title\x07b"))
    a\x1b]0;title\x07b
    """
    return text.translate(_SHOWN)


class UserError(ValueError):
    """A mistake that the user can fix: one sentence that says what, where and what to do.

    Args:
      message: the sentence. It names no program, because the library may be used without one.
      command: a command that fixes it, if there is one, as words: its name, then its arguments.
    """

    def __init__(self, message: str, *, command: tuple[str, ...] = ()):
        super().__init__(harmless(message))
        self.command = command


class ConfigError(UserError):
    """An invalid value of the configuration; the message names fields in Python notation.

    It says `train.batch_size is 3`, or `scenario.allow_unequal=True` for what to set. Commands
    show their flags in place of the fields.
    """


class DivergedError(RuntimeError):
    """Training produced a non-finite number; the message gives the task and step."""


class Interrupted(Exception):
    """The process was asked to stop and did so cleanly.

    Attributes:
      signal: the number of the signal that it received.
      resume: how to resume, one sentence.
    """

    def __init__(self, signal: int, resume: str = "the same command resumes from here"):
        super().__init__(resume)
        self.signal = signal
        self.resume = resume


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT ends the process, which cleans up as after Ctrl-C.

    Attributes:
      signal: its number.
    """

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


def exit_code(command: Callable[[], None], program: Program = MAGMAX) -> int:
    """Runs a command; returns 0 on success, else prints one sentence and returns an exit code.

    2 for a user's mistake or a disk error, 1 for a run that diverged, 128 plus the signal's number
    for an interruption (130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP). Other exceptions are bugs
    and keep their stack trace.

    Args:
      command: what to run.
      program: names the command that fixes a `UserError`.
    """
    try:
        command()
    except UserError as error:
        remedy = f": run {program.line(*error.command)}" if error.command else ""
        print(f"error: {error}{remedy}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        where = str(error.filename or "the disk")
        where = harmless(f"{where[:80]}..." if len(where) > 255 else where)
        remedy = _REMEDIES.get(error.errno, "")
        print(f"error: {where}: {error.strerror}{remedy}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(interruption.resume, file=sys.stderr)
        return 128 + interruption.signal
    except KeyboardInterrupt as interruption:
        # After a SIGHUP the terminal may be gone.
        with contextlib.suppress(OSError):
            print("interrupted: the same command starts it again", file=sys.stderr, flush=True)
        return 128 + (interruption.signal if isinstance(interruption, Terminated) else 2)
    return 0
