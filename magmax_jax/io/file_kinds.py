"""Recognises, by first bytes, what files named like weights or JSON really are."""

import re

HEAD = 512
"""Number of leading bytes used to recognise a file's kind."""

_POINTER = re.compile(
    rb"version https://(?:git-lfs|hawser)\.github\.com/spec/.*?\nsize (\d+)", re.S
)
_TITLE = re.compile(rb"<title[^>]*>\s*([^<]+?)\s*</title>", re.I)
_PICKLE = (
    "{}, so a pickle, which can run any code when it is read: get the model as safetensors "
    "(transformers' save_pretrained writes it)"
)
_PROTOCOLS = tuple(bytes([0x80, number]) for number in range(2, 6))
"""What a pickle of each binary protocol begins with."""
_MAGIC = (
    (b"GGUF", "is a GGUF file, llama.cpp's format: fetch the safetensors edition of this model"),
    (b"PK\x03\x04", _PICKLE.format("is a zip archive as torch.save writes it")),
    (b"\x89HDF", "is an HDF5 file as Keras writes it: get the model as safetensors"),
    (b"\x93NUMPY", "is a NumPy array: get the model as safetensors"),
    (b"\x1f\x8b", "is a gzip archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive: unpack it"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it"),
    (b"\x00" * 8, "begins with zeros, as an unfinished download does: fetch it again"),
)


def describe(head: bytes) -> str | None:
    """What a file is instead of what its name says, and what to do; None if not recognised.

    Args:
      head: its first bytes, up to `HEAD` of them.

    Returns:
      The rest of a sentence that begins with the file's path.
    """
    if not head:
        return "is empty, so it is not a complete safetensors file: fetch it again"
    if pointer := describe_pointer(head):
        return pointer
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:14].lower().startswith((b"<!doctype html", b"<html")):
        title = _TITLE.search(head)
        named = f" ({title[1].decode(errors='replace')!r})" if title else ""
        return (
            f"is an HTML page{named} as a refused download leaves it, not a complete safetensors "
            "file: fetch it again"
        )
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head.startswith(_PROTOCOLS):
        return _PICKLE.format("is a file as older versions of torch.save write it")
    return _text(head)


def describe_pointer(head: bytes) -> str | None:
    """As `describe`, for the pointer files that a clone of a repository has for large files."""
    if pointer := _POINTER.match(head):
        return (
            f"is a Git LFS pointer to {int(pointer[1]):,} bytes, not the file itself: "
            "run `git lfs pull` in its repository"
        )
    if b"/annex/objects/" in head[:64]:
        return "is a git-annex pointer, not the file itself: run `git annex get` in its repository"
    return None


def _text(head: bytes) -> str | None:
    """Describes a file of printable text, such as a server's error page; None for all others."""
    # A safetensors file begins with its header's length, whose upper bytes are zero.
    words = head.decode(errors="ignore").strip()
    if b"\0" in head or not words or not all(c.isprintable() or c.isspace() for c in words):
        return None
    first = words.splitlines()[0][:60]
    return f"holds text that begins with {first!r}, not weights: fetch it again"
