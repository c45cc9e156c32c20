"""`--rename 'PATTERN=REPLACEMENT'`: renames the models' tensors."""

import dataclasses
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from magmax_jax.errors import UserError, counted
from magmax_jax.io.safetensors.reader import TensorFiles


class Rename(NamedTuple):
    """One rule: each * in the replacement is what the corresponding * in the pattern matched."""

    text: str
    pattern: re.Pattern[str]
    replacement: tuple[str, ...]
    """The text between its asterisks."""

    def __call__(self, name: str) -> str | None:
        """The new name; None if the pattern does not match the whole name."""
        match = self.pattern.fullmatch(name)
        if match is None:
            return None
        between = zip(match.groups(), self.replacement[1:], strict=False)
        return self.replacement[0] + "".join(found + text for found, text in between)


def parse(text: str) -> Rename:
    """Parses a rule. A pattern that ends with a dot is a prefix.

    >>> parse("*.gamma=*.weight")("encoder.norm.gamma")
    'encoder.norm.weight'
    >>> parse("module.=")("module.encoder.weight")
    'encoder.weight'

    Raises:
      UserError: the text is not a rule.
    """
    pattern, equals, replacement = text.partition("=")
    if not pattern or not equals:
        raise UserError(f"--rename: {text!r}: write PATTERN=REPLACEMENT, as in 'module.*=*'")
    if pattern.endswith(".") and "*" not in pattern + replacement:
        pattern, replacement = pattern + "*", replacement + "*"
    if replacement.count("*") > pattern.count("*"):
        raise UserError(
            f"--rename: {text!r} has more * after the = than before it: use at most as many, "
            "because each stands for what a * of the pattern matched"
        )
    regex = "(.*)".join(map(re.escape, pattern.split("*")))
    return Rename(text, re.compile(regex, re.DOTALL), tuple(replacement.split("*")))


def rename_all(
    models: Sequence[TensorFiles], rules: Sequence[Rename], known: Collection[str]
) -> tuple[list[TensorFiles], list[str], list[str]]:
    """The models renamed by the rules, applied in order; problems and notes.

    Args:
      known: theta_0's names, which need no renaming.
    """
    problems: list[str] = []
    notes: list[str] = []
    used: set[str] = set()
    renamed = []
    for model in models:
        old: dict[str, str] = {}  # by new name
        for name in model.tensors:
            new = name if name in known else _applied(rules, name, used)
            if new == name:
                continue
            if new in old:
                problems.append(
                    f"{model.place}: --rename gives both {old[new]} and {name} the name {new}"
                )
            old[new] = name
        moved = set(old.values())
        replaced = [name for name in old if name in model.tensors and name not in moved]
        if replaced:
            notes.append(
                f"{model.place}: --rename replaces {counted(len(replaced), 'tensor')}, such as "
                f"{replaced[0]} by {old[replaced[0]]}"
            )
        tensors = {name: t for name, t in model.tensors.items() if name not in moved}
        tensors |= {new: model.tensors[name] for new, name in old.items()}
        renamed.append(dataclasses.replace(model, tensors=tensors))
    problems += [
        f"--rename: {rule.text!r} matches no tensor that theta_0 lacks in any model: a pattern "
        "stands for a whole name, or ends with a dot"
        for rule in rules
        if models and rule.text not in used
    ]
    return renamed, problems, notes


def _applied(rules: Sequence[Rename], name: str, used: set[str]) -> str:
    for rule in rules:
        found = rule(name)
        if found is not None:
            used.add(rule.text)
            name = found
    return name
