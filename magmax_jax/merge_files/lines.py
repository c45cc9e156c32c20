"""Lists that a terminal shows: as many lines as fit, and how many more there are."""

from collections.abc import Sequence

MOST = 20
"""Lines of one message at most."""


def capped(lines: Sequence[str], most: int = MOST) -> list[str]:
    """The lines, or the first ones and a last one that counts the rest: `most` in all.

    >>> capped(["a", "b", "c", "d"], 3)
    ['a', 'b', 'and 2 more']
    """
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"and {len(lines) - most + 1:,} more"]
