"""Names of files and classes in any script, whatever the locale."""

import os
import sys


def ensure_utf8_mode() -> None:
    """Starts the program again in Python's UTF-8 mode where file names are ASCII.

    That is so under `LC_ALL=C` or `POSIX` where `PYTHONCOERCECLOCALE=0` and `PYTHONUTF8=0` forbid
    Python's own remedies, as in some containers and job schedulers: a class folder of another
    script could then be neither named in a prompt nor printed. Processes that this one starts
    inherit the mode. A program that is read from standard input has been read and stays as it is,
    and so does one whose `python -X utf8=0`, `-E` or `-I` forbids the mode again.
    """
    from_input = sys.argv[:1] in ([], [""], ["-"])
    forbidden = "utf8" in sys._xoptions or sys.flags.ignore_environment
    if sys.getfilesystemencoding() == "utf-8" or from_input or forbidden:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
