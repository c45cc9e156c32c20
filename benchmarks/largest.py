"""The largest batch that a contender has room for, each tried in a process of its own."""

from collections.abc import Callable

from benchmarks.turns import Contestant, take_turns


def largest(begin: int, at_most: int, contestant: Callable[[int], Contestant]) -> tuple[int, str]:
    """Of begin 2^i and half as much again, ascending until one fails.

    Where there is no room for `begin`, halves of it are tried; another failure ends the search.

    Args:
      contestant: a new one of that batch size; what it has no room for, it fails at.

    Returns:
      Images, 0 where none is possible; and why not more, one sentence.
    """

    why = f"not tried above {at_most}"

    def fits(size: int) -> bool:
        nonlocal why
        (ended,) = take_turns([contestant(size)], repeats=0)
        if ended.failure:
            why = f"{size}: {ended.failure}"
        return not ended.failure

    found, size = 0, begin
    while size <= at_most and fits(size):
        found, size = size, 2 * size
    while not found and size > 1 and "MemoryError" in why:
        size //= 2
        found = size if fits(size) else 0
    between = found * 3 // 2
    if found < between <= at_most and fits(between):
        found = between
    return found, why
