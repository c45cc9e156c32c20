"""The page of merge rules: a table, then every rule's docstring."""

import inspect
import re

from magmax_jax.registry import RULES
from magmax_jax.rules import MergeRule, named, options
from tools.docs.markdown import docstring, first_sentence, render, table

NEEDED = {"weights": (1.0, 1.0)}
"""Values for options without a default, which change no fact in the table."""

SCOPES = {
    "entry": "entry by entry",
    "tensor": "tensor by tensor",
    "model": "whole models",
}
"""`MergeRule.scope` in words."""


def page() -> str:
    rows = [(f"[`{name}`](#{name})", *_facts(name)) for name in RULES]
    head = ("rule", "what it takes", "scale", "memory", "models", "merged", "order", "source")
    sections = "\n\n".join(map(_section, RULES))
    return render("rules.md", table=table(head, rows), sections=sections)


def _facts(name: str) -> tuple[str, ...]:
    text, rule = _text(name), _example(name)
    survey = ", survey" if rule.survey or rule.settle else ""
    fisher = ", with second moments" if rule.from_adam else ", with a Fisher"
    return (
        first_sentence(RULES[name]),
        f"{rule.default_scale:g}",
        "constant" if rule.streaming else "all tasks",
        _models(rule) + (fisher if rule.needs_fisher else ""),
        SCOPES[rule.scope] + survey,
        _order(text),
        _source(text),
    )


def _text(name: str) -> str:
    """A rule's docstring as one line; if it only names another rule, that one's follows."""
    text = inspect.getdoc(RULES[name]) or ""
    others = re.findall(r"`(\w+)`", text) if "\n" not in text else []
    texts = [text, *(inspect.getdoc(RULES[other]) or "" for other in others if other in RULES)]
    return " ".join(" ".join(texts).split())


def _models(rule: MergeRule) -> str:
    return f"one for each of `{rule.per_model}`" if rule.per_model else rule.admitted


def _example(name: str) -> MergeRule:
    """The rule at its defaults."""
    needed = {option: NEEDED[option] for option, default in options(name).items()
              if default is inspect.Parameter.empty}  # fmt: skip
    return named(name, **needed)


def _order(text: str) -> str:
    """What a docstring says on the order of the models."""
    said = re.search(r"(Order:? |(?=Only order matters|\border matters))([^.:]*)", text)
    return said[2] if said else ""


def _source(text: str) -> str:
    """Where a rule was published: the first arXiv number of its docstring, or name and year."""
    if re.search(r"\bOurs\b", text):
        return "ours"
    if number := re.search(r"arXiv (\d{4}\.\d{4,5})", text):
        return f"[{number[1]}](https://arxiv.org/abs/{number[1]})"
    name = re.search(r"[A-Z]\w+, (?:19|20)\d\d", text)
    return name[0] if name else "—"


def _section(name: str) -> str:
    found = {o: d for o, d in options(name).items() if d is not inspect.Parameter.empty}
    given = ", ".join(f"{option}={default!r}" for option, default in found.items())
    shown = f"Options and defaults: `{given}`." if given else ""
    parts = [f"## `{name}` {{ #{name} }}", docstring(RULES[name]), shown]
    return "\n\n".join(filter(None, parts))
