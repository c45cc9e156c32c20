"""Writes of this process that fail: the n-th one, in one of several ways.

It patches Python's own functions, so what libraries write in C++ (Orbax's arrays, array_record) is
out of its reach; the directories that they write into are made and renamed within it.
"""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

FAULTS = ("ENOSPC", "EIO", "EINTR", "short", "kill")
"""A full disk, a broken one, a signal, a write that takes a part of the bytes, and SIGKILL just
before."""
CHANGING = (
    "fsync", "replace", "rename", "mkdir", "link", "symlink", "truncate", "ftruncate", "rmdir",
    "unlink", "remove", "chmod", "utime", "posix_fallocate", "copy_file_range", "sendfile",
)  # fmt: skip
"""Functions of `os` that change a disk and take all or nothing."""
CLEANING = frozenset({"rmdir", "unlink", "remove"})
"""A disk that is full or broken still lets go of names."""
WRITING = frozenset({"write", "pwrite"})
AGAIN = WRITING | {"open", "fsync", "ftruncate", "posix_fallocate", "copy_file_range", "sendfile"}
"""Python itself repeats these after a signal (PEP 475)."""


def applies(fault: str, name: str) -> bool:
    """Whether a function can fail that way."""
    if fault == "short":
        return name in WRITING
    if fault == "EINTR":
        return name not in AGAIN
    return fault == "kill" or name not in CLEANING


class Shim:
    """Lists what this process writes, and lets the `at`-th time fail.

    Args:
      at: from 1; 0 never fails.
      fault: one of `FAULTS`.

    Attributes:
      names: of the functions called so far.
      callers: for each of them, the files of the functions that called it, innermost first.
      struck: whether one failed.
    """

    def __init__(self, at: int, fault: str):
        self.at, self.fault, self.struck = at, fault, False
        self.names: list[str] = []
        self.callers: list[str] = []
        self._real = {name: getattr(os, name) for name in (*CHANGING, "write", "pwrite", "open")}
        self._open = io.open

    def install(self) -> None:
        """For the rest of this process."""
        for name in CHANGING:
            setattr(os, name, self._changing(name))
        os.write = self._writing("write")
        os.pwrite = self._writing("pwrite")
        os.open = self._opening
        io.open = builtins.open = self._opened

    def hit(self, name: str) -> bool:
        """Notes one call; raises, kills, or returns whether only a part shall be written."""
        self.names.append(name)
        self.callers.append(_callers())
        if len(self.names) != self.at or not applies(self.fault, name):
            return False
        self.struck = True
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "short":
            return True
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))

    def _changing(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.hit(name)
            return self._real[name](*args, **kwargs)

        return call

    def _writing(self, name: str) -> Callable[..., int]:
        def call(descriptor: int, data: Any, *where: Any) -> int:
            if descriptor > 2 and self.hit(name):
                data = memoryview(data).cast("B")
                data = data[: max(len(data) // 2, 1)]
            return self._real[name](descriptor, data, *where)

        return call

    def _opening(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            self.hit("open")
        return self._real["open"](path, flags, *args, **kwargs)

    def _opened(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return self._open(file, mode, *args, **kwargs)
        self.hit("open")
        given = self._open(file, mode, *args, **kwargs)
        is_text = hasattr(given, "encoding")
        plain = given.buffer if is_text else given
        raw = _File(self, os.dup(plain.fileno()), _again(mode))
        encoding = given.encoding if is_text else None
        given.close()
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if not is_text:
            return buffer
        return io.TextIOWrapper(buffer, encoding, kwargs.get("errors"), kwargs.get("newline"))


def _callers() -> str:
    frame, files = sys._getframe(2), []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return " ".join(dict.fromkeys(files))


def _again(mode: str) -> str:
    """The mode for a file that was opened, and emptied if that was asked for, already."""
    letters = mode.replace("t", "").replace("b", "").replace("+", "")
    return {"w": "r+", "x": "r+", "r": "r+", "a": "a"}[letters]


class _File(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, shim: Shim, descriptor: int, mode: str):
        super().__init__(descriptor, mode)
        self._shim = shim

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) and self._shim.hit("write"):
            view = view[: max(len(view) // 2, 1)]
        return super().write(view)
