"""Shell patterns of tensor names: matching for `--include` and `--exclude`, and suggestions."""

import fnmatch
import glob
from collections.abc import Collection, Iterable, Iterator, Sequence


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns matches the whole name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether to merge a tensor of this name; no `include` means all."""
    return (not include or matches(name, include)) and not matches(name, exclude)


def covering(names: Collection[str], others: Iterable[str]) -> list[str]:
    """Patterns that match all of `names` and none of `others`: as few as possible at word level.

    >>> covering(["head.weight", "head.bias", "scale"], ["body.weight"])
    ['head.*', 'scale']
    >>> covering(["a.0.ids", "a.1.ids"], ["a.0.weight", "a.1.weight"])
    ['*.ids']
    """
    split = [tuple(name.split(".")) for name in others]
    words = [tuple(name.split(".")) for name in sorted(names)]
    by_start = _shortest(words, split)
    by_end = _shortest([name[::-1] for name in words], [name[::-1] for name in split])
    if len(by_start) <= len(by_end):
        return [
            glob.escape(".".join(start)) + (".*" if covers else "")
            for start, covers in by_start.items()
        ]
    return [
        ("*." if covers else "") + glob.escape(".".join(end[::-1]))
        for end, covers in by_end.items()
    ]


def _shortest(
    names: Sequence[tuple[str, ...]], others: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], bool]:
    """The shortest prefixes that no other name has, each with whether names continue after it.

    A prefix that only one name has is replaced by that name.
    """
    taken = {start for name in others for start in _starts(name)}
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name in names:
        start = next((start for start in _starts(name) if start not in taken), name)
        found.setdefault(start, []).append(name)
    return {
        (start if len(having) > 1 else having[0]): len(having) > 1
        for start, having in found.items()
    }


def _starts(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Its proper prefixes of whole words."""
    return (name[:count] for count in range(1, len(name)))
