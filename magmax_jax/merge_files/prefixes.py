"""Searches for the single prefix by which a model's names differ from theta_0's."""

from collections.abc import Collection, Iterator, Mapping

from magmax_jax.io.safetensors.reader import Tensor

ANCHORS = 50
"""Most names from which prefixes are derived."""


class Prefixes:
    """Searches for one prefix that their names have and ours lack, or vice versa.

    Args:
      ours, theirs: tensors by spelling, all of theta_0's and the model's unmatched ones.
      found: spellings of ours that the model already has.
    """

    def __init__(
        self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], found: Collection[str]
    ):
        self._ours, self._theirs, self._found = ours, theirs, found

    def best(
        self, needed: Collection[str], essential: Collection[str]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Maps their names to ours by the prefix that fits; or the rules if several fit equally.

        A prefix fits if it finds all of `needed`, or a place for all that is `essential` in the
        model; the one that finds most is used. If none fits, one that finds half of it is accepted,
        so that problems name only the rest.
        """
        fits: dict[str, tuple[tuple[int, int], dict[str, str]]] = {}
        partial: dict[str, tuple[tuple[int, int], dict[str, str]]] = {}
        for rule, pairs in self._candidates(needed, essential):
            if any(new in self._found for new in pairs.values()):
                continue  # theirs exist with and without it: two sets of weights
            dropped = {old for old, new in pairs.items() if new not in self._ours}
            if self._found and dropped & set(essential):
                continue  # theta_0's names are mixed with those of something else
            pairs = {old: new for old, new in pairs.items() if old not in dropped}
            same = {
                old: new
                for old, new in pairs.items()
                if self._theirs[old].shape == self._ours[new].shape
            }
            finds = len(set(same.values()) & set(needed))
            whole = set(needed) <= set(same.values()) or set(essential) <= same.keys()
            if finds:
                (fits if whole else partial)[rule] = (finds, len(same)), pairs
        enough = min(len(needed), len(essential)) / 2
        most = fits or {rule: fit for rule, fit in partial.items() if fit[0][0] >= enough}
        score = max((count for count, _ in most.values()), default=(0, 0))
        first = [rule for rule, (count, _) in most.items() if count == score]
        if len(first) > 1:
            return {}, tuple(first)
        return (most[first[0]][1] if first else {}), ()

    def _candidates(
        self, needed: Collection[str], essential: Collection[str]
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Rules for `--rename`, each with the new names it gives to theirs."""
        for prefix in _prefixes(self._theirs, needed):
            having = (name for name in self._theirs if name.startswith(prefix))
            yield f"{prefix}*=*", {name: name.removeprefix(prefix) for name in having}
        for prefix in _prefixes(self._ours, essential):
            yield f"*={prefix}*", {name: prefix + name for name in self._theirs}


def _prefixes(names: Collection[str], ends: Collection[str]) -> list[str]:
    """Distinct prefixes that precede any of the `ends` in the names."""
    step = max(1, len(ends) // ANCHORS)
    anchors = tuple(f".{end}" for end in sorted(ends)[::step])
    found = {
        name.removesuffix(anchor) + "."
        for name in names
        if name.endswith(anchors)
        for anchor in anchors
        if name.endswith(anchor)
    }
    return sorted(found)
