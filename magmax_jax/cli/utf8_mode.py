"""Names of files and classes in any script, whatever the locale."""

import os
import sys


def ensure_utf8_mode() -> None:
    """Restarts the program in Python's UTF-8 mode if file names are limited to ASCII.

    That happens under `LC_ALL=C` or `POSIX` if `PYTHONCOERCECLOCALE=0` and `PYTHONUTF8=0` disable
    Python's own fallbacks, as in some containers and job schedulers: a class folder named in
    another script could then be neither used in a prompt nor printed. Child processes inherit the
    mode. A program read from standard input cannot be read again and is not restarted, nor is one
    started with `python -X utf8=0`, `-E` or `-I`, which would disable the mode again.
    """
    from_input = sys.argv[:1] in ([], [""], ["-"])
    forbidden = "utf8" in sys._xoptions or sys.flags.ignore_environment
    if sys.getfilesystemencoding() == "utf-8" or from_input or forbidden:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
