"""Explains in one sentence how a model's names differ from theta_0's."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence

from magmax_jax.io import hub
from magmax_jax.io.safetensors.reader import TensorFiles

_EXPERT = re.compile(r"\.experts\.\d+\.")
_FEW = 4
"""Most substitutions in one sentence."""


def explain(
    pretrained: TensorFiles, model: TensorFiles, missing: Sequence[str], extra: Sequence[str]
) -> str | None:
    """How names that only theta_0 has differ from those that only the model has, if discernible."""
    where = model.place
    one_by_one = [bool(_EXPERT.search(" ".join(names))) for names in (missing, extra)]
    packed = any(".experts." in name for name in (extra if one_by_one[0] else missing))
    if one_by_one[0] != one_by_one[1] and packed:
        styles = ("one by one", "packed into one tensor a layer")
        theirs, ours = styles if one_by_one[1] else styles[::-1]
        return (
            f"{where}: it stores experts {theirs}, theta_0 {ours}: save one of them again with "
            "the version of transformers that saved the other"
        )
    rules = _substitutions(pretrained, model, missing, extra)
    if rules:
        flags = " ".join(shlex.quote(rule) for rule in rules)
        some = "1 tensor has another name"
        if len(missing) > 1:
            some = f"{len(missing)} tensors have other names"
        return (
            f"{where}: {some}, such as {extra[0]}, while theta_0 has {missing[0]}: if they are "
            f"the same weights, say so with --rename {flags}"
        )
    return None


def unlike(
    pretrained: TensorFiles,
    model: TensorFiles,
    missing: Sequence[str],
    extra: Sequence[str],
    wanted: int,
) -> str:
    """The message for a model most of whose names theta_0 lacks."""
    theirs, ours = (max(names, key=lambda name: name.count(".")) for names in (extra, missing))
    shared = f"only {wanted - len(missing)}" if len(missing) < wanted else "none"
    if beside := _beside(pretrained) or _beside(model):
        return (
            f"{model.place}: it has {shared} of the {wanted} tensors to merge, but {beside}: name "
            "that file if it contains the weights that you want"
        )
    return (
        f"{model.place}: it has {shared} of the {wanted} tensors to merge; its names are like "
        f"{theirs}, theta_0's like {ours}: convert it to theta_0's library, give --rename "
        "'PATTERN=REPLACEMENT', or merge with the theta_0 that it was fine-tuned from"
    )


def _beside(files: TensorFiles) -> str | None:
    """A hint if a directory also holds the weights in another library's file."""
    if files.loose:
        return None
    read = {path.name for path in files.files}
    others = sorted(
        path
        for path in files.directory.glob("*.safetensors")
        if path.name not in (*read, hub.ADAPTER) and "-of-" not in path.name
    )
    return f"{others[0]} lies beside the file that was read" if others else None


def _substitutions(
    pretrained: TensorFiles, model: TensorFiles, missing: Sequence[str], extra: Sequence[str]
) -> list[str]:
    """Rules for `--rename` that change one word and explain nearly all missing names."""
    by_hole: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for name in extra:
        for hole in _holes(name):
            by_hole.setdefault(hole, []).append(name)
    rules: Counter[str] = Counter()
    for name in missing:
        found = [
            (before, theirs.split(".")[len(before)], after)
            for before, after in _holes(name)
            for theirs in by_hole.get((before, after), ())
            if model.tensors[theirs].shape == pretrained.tensors[name].shape
        ]
        if len(found) == 1:
            before, word, after = found[0]
            ours = name.split(".")[len(before)]
            start, end = "*." if before else "", ".*" if after else ""
            if not (word.isdigit() or ours.isdigit()):
                rules[f"{start}{word}{end}={start}{ours}{end}"] += 1
    explained = sum(rules.values()) >= 0.8 * len(missing)
    return list(rules) if explained and len(rules) <= _FEW else []


def _holes(name: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The words before and after each word of the name."""
    words = tuple(name.split("."))
    return [(words[:i], words[i + 1 :]) for i in range(len(words))]
