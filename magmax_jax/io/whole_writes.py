"""Writes that take all bytes: the system's may take a part of them, and say so in a number."""

import os


def pwrite_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of `data` into a file from `offset` on.

    A signal, a disk that is nearly full or a network file system can end one write early.

    Args:
      data: contiguous; of bytes, whatever it was made from.

    Raises:
      OSError: the disk refuses.
    """
    view = memoryview(data).cast("B")
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
