"""The sentences that errors can say, read from the source: nothing is run.

What a sentence fills in at run time is shown as the name of the value, in angle brackets.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "magmax_jax"
ERRORS = {"UserError", "ConfigError", "Unsuited", "DivergedError"}
CHECKS = {"require": 1}
"""Functions that raise a UserError, and the position of its message among their arguments."""


class ErrorText(NamedTuple):
    """One sentence, and where it is raised.

    Attributes:
      text: with ⟨name⟩ in place of what is filled in.
      file: below the package: "merge_files/plan.py".
    """

    text: str
    file: str


def error_texts(package: Path = PACKAGE) -> list[ErrorText]:
    """Every sentence in a package, sorted by file and then as in the file."""
    found: dict[ErrorText, None] = {}
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        tree = ast.parse(path.read_text())
        for scope in _scopes(tree):
            for message in _messages(scope):
                for text in _texts(message, scope):
                    if len([word for word in text.split() if "⟨" not in word]) > 2:
                        found[ErrorText(text, file)] = None
    return list(found)


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """Functions, each without the functions inside; then the module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Module):
            yield node


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of functions inside."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef):
            yield node
            yield from _own(node)


def _messages(scope: ast.AST) -> Iterator[ast.expr]:
    """The first argument of every error, and the message of every check."""
    for node in _own(scope):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = 0 if name in ERRORS else CHECKS.get(name)
            if at is not None and len(node.args) > at:
                yield node.args[at]


def _texts(message: ast.expr, scope: ast.AST) -> list[str]:
    """The texts that an expression can have; none if it comes from elsewhere."""
    match message:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            texts = [""]
            for value in values:
                texts = [text + part for text in texts for part in _parts(value, scope)]
            return [" ".join(text.split()) for text in texts]
        case ast.IfExp(body=body, orelse=other):
            return _texts(body, scope) + _texts(other, scope)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a in _texts(left, scope) for b in _texts(right, scope)]
        case ast.Name(id=name):
            return [
                text
                for node in _own(scope)
                if isinstance(node, ast.Assign)
                and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
                and not isinstance(node.value, ast.Name)
                for text in _texts(node.value, scope)
            ]
    return []


def _parts(value: ast.expr, scope: ast.AST) -> list[str]:
    """What one part of an f-string adds."""
    if not isinstance(value, ast.FormattedValue):
        return _texts(value, scope)
    either = _texts(value.value, scope) if isinstance(value.value, ast.IfExp) else []
    return either or [f"⟨{_name(value.value)}⟩"]


def _name(value: ast.expr) -> str:
    """A short name of what is filled in."""
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ")
        case ast.Call(func=ast.Attribute(value=of, attr="join")) if isinstance(of, ast.Constant):
            return f"{_name(value.args[0])}, ..."
        case ast.Call(func=ast.Name(id="counted"), args=[_, ast.Constant(value=noun), *_]):
            return f"number of {noun}s"
        case ast.Call(args=[first, *_]):
            return _name(first)
        case ast.Call(func=function):
            return _name(function)
        case ast.Subscript(value=inner) | ast.Starred(value=inner):
            return _name(inner)
        case ast.ListComp(generators=[first, *_]) | ast.GeneratorExp(generators=[first, *_]):
            return _name(first.iter)
    return "..."
