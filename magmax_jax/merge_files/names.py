"""The same weights under other names: finds theta_0's name for every tensor of a model.

Equal names stay. Names that differ only in the spelling of wrappers and library versions are then
matched. The rest may differ by one prefix, if it fits every name and every shape.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.parts import CONTAINERS, WRAPPERS, is_averaged
from magmax_jax.merge_files.prefixes import Prefixes

_NORM = re.compile(r"norm|^(?:ln|bn)", re.IGNORECASE)
_LEAVES = {"gamma": "weight", "beta": "bias"}
"""TensorFlow's names for parameters of PyTorch's normalisation layers."""
_NORMALISED = {f"weight_{'gv'[i]}": f"parametrizations.weight.original{i}" for i in (0, 1)}
"""PyTorch's older names for the two parts of a normalised weight."""


@dataclass(frozen=True)
class Reading:
    """A model under theta_0's names.

    Attributes:
      files: the model; tensors that theta_0 lacks keep their names.
      how: what differs, e.g. "without the prefix module."; empty if nothing does.
      ambiguous: rules for `--rename` that fit equally well, so none was applied.
    """

    files: TensorFiles
    how: str = ""
    ambiguous: tuple[str, ...] = ()


def read_as(
    pretrained: TensorFiles,
    model: TensorFiles,
    wanted: Collection[str],
    optional: Callable[[str, TensorFiles], bool],
) -> Reading:
    """The model under theta_0's names, as far as they are certain.

    Args:
      wanted: names of theta_0's tensors to merge.
      optional: whether a checkpoint may lack the tensor of this name, such as a head.
    """
    ours, theirs = pretrained.tensors, model.tensors
    if all(name in theirs for name in wanted):
        return Reading(model)
    our_keys, their_keys = _by_spelling(ours), _by_spelling(theirs)
    new = {
        their_keys[key]: name
        for key, name in our_keys.items()
        if name not in theirs and their_keys.get(key, name) not in ours
        if key in their_keys
    }
    found, wanted = ours.keys() & theirs.keys() | set(new.values()), set(wanted)
    needed = {
        key
        for key, name in our_keys.items()
        if name in wanted and name not in found and not optional(name, pretrained)
    }
    left = {key: name for key, name in their_keys.items() if name not in ours and name not in new}
    # Weights come before their moving average, unless the model holds nothing else.
    left = {key: name for key, name in left.items() if not is_averaged(name)} or left
    essential = {key for key, name in left.items() if not optional(name, model)} or left
    if needed and left:
        prefixes = Prefixes(
            {key: ours[name] for key, name in our_keys.items()},
            {key: theirs[name] for key, name in left.items()},
            {key for key, name in our_keys.items() if name in found},
        )
        pairs, ambiguous = prefixes.best(needed, essential)
        if ambiguous:
            return Reading(model, ambiguous=tuple(_in_full(rule, left) for rule in ambiguous))
        new |= {left[key]: our_keys[ours_key] for key, ours_key in pairs.items()}
    tensors = {new.get(name, name): tensor for name, tensor in theirs.items()}
    return Reading(dataclasses.replace(model, tensors=tensors), _how(new))


def spelling(name: str, names: Collection[str]) -> str:
    """The name without prefixes from wrappers and classes, in PyTorch's newer spelling.

    >>> spelling("module.encoder.LayerNorm.gamma", ())
    'encoder.LayerNorm.weight'
    >>> spelling("language_model.model.norm.weight", ())
    'norm.weight'

    Args:
      names: of the checkpoint; `weight_v` means a normalised weight only beside a `weight_g`.
    """
    words = [word for word in name.split(".") if word not in WRAPPERS] or [name]
    while len(words) > 1 and words[0] in CONTAINERS:
        del words[0]
    if len(words) > 2 and words[1] == "model":  # text_model.model.
        del words[1]
    *above, last = words
    if above and last in _LEAVES and _NORM.search(above[-1]):
        words[-1] = _LEAVES[last]
    elif last in _NORMALISED and f"{name[:-1]}g" in names:
        words[-1] = _NORMALISED[last]
    return ".".join(words)


def _by_spelling(names: Collection[str]) -> dict[str, str]:
    """Names by spelling, without those that share a spelling."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(spelling(name, names), []).append(name)
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def _in_full(rule: str, names: Mapping[str, str]) -> str:
    """A rule that drops a prefix, extended by what precedes it in `names` (keyed by spelling)."""
    prefix = rule.removesuffix("*=*")
    before = (
        name.removesuffix(key)
        for key, name in names.items()
        if key.startswith(prefix) and name.endswith(key)
    )
    return f"{next(before, '')}{rule}"


def _how(new: Mapping[str, str]) -> str:
    """How the names differ, in words.

    Args:
      new: the model's names -> theta_0's.
    """
    differences = dict.fromkeys(found for pair in new.items() for found in _difference(*pair))
    if not differences:
        return ""
    if len(differences) > 4:
        theirs, ours = next(iter(new.items()))
        more = f" and {len(new) - 1} more alike" if len(new) > 1 else ""
        return f"with {theirs} as {ours}{more}"
    without = [a for a, b in differences if not b]
    added = [b for a, b in differences if not a]
    words = [f"without the prefix {' and '.join(without)}"] if without else []
    words += [f"with the prefix {' and '.join(added)}"] if added else []
    others = [f"{a} as {b}" for a, b in sorted(differences) if a and b]
    words += [f"with {' and '.join(others)}"] if others else []
    return ", ".join(words)


def _difference(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    """The words in which two names differ: ("module.", ""), ("gamma", "weight")."""
    for a, b in (_LEAVES | _NORMALISED).items():
        for old, new in ((a, b), (b, a)):
            if theirs.endswith(f".{old}") and ours.endswith(f".{new}"):
                yield old, new
                theirs, ours = theirs.removesuffix(f".{old}"), ours.removesuffix(f".{new}")
    one, other = theirs.split("."), ours.split(".")
    while one and other and one[-1] == other[-1]:
        del one[-1], other[-1]
    while one and other and one[0] == other[0]:
        del one[0], other[0]
    a, b = ".".join(one), ".".join(other)
    if a or b:
        yield (f"{a}.", "") if not b else ("", f"{b}.") if not a else (a, b)
