"""Home directories, empty values and repeated flags, for every command and flag."""

import dataclasses
import os
import typing
from pathlib import Path

import pytest
import tyro

from magmax_jax.cli import analyse, evaluate, export, merge, prepare, report, run, table, watch
from magmax_jax.cli.flag_types import Groups
from magmax_jax.cli.grid.command import Options
from magmax_jax.cli.main import main
from magmax_jax.cli.words import as_meant, given_again
from magmax_jax.errors import UserError

COMMANDS = {
    "run": run.Launch,
    "evaluate": evaluate.Evaluate,
    "analyse": analyse.Analyse,
    "report": report.Report,
    "watch": watch.Watch,
    "grid": Options,
    "table": table.Table,
    "prepare": prepare.Prepare,
    "export": export.Export,
    "merge": merge.Merge,
    "inspect": merge.Inspect,
}


def flags(kind, prefix=""):
    """A dataclass's flags with their types; None for positional arguments."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        plain = typing.get_type_hints(kind)[name]
        names = [mark.name for mark in marks if getattr(mark, "name", None) is not None]
        called = names[0] if names else name
        inner = f"{prefix}{called}." if called else prefix
        if dataclasses.is_dataclass(plain):
            yield from flags(plain, inner)
        elif tyro.conf.Positional[plain] == hint:
            yield None, plain
        else:
            yield f"--{prefix}{called}".replace("_", "-"), plain


def takes_text(kind):
    """Whether a value may be a path: its type is a path or text."""
    return kind in (Path, str, Groups) or any(map(takes_text, typing.get_args(kind)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_that_may_be_a_path_expands_the_home_directory(command, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = [flag for flag, kind in flags(COMMANDS[command]) if takes_text(kind)]
    assert found, command
    for flag in found:
        words = ["~/x"] if flag is None else [f"{flag}=~/x", flag, "~/x"]
        expected = ["/home/me/x"] if flag is None else [f"{flag}=/home/me/x", flag, "/home/me/x"]
        assert as_meant(words) == expected


def test_the_flags_above_match_the_commands():
    everything = {name: {flag for flag, _ in flags(kind)} for name, kind in COMMANDS.items()}
    assert {"--out", "--model.source", "--scenario.data-dir", "--cache"} <= everything["run"]
    assert {"--output", "--state", "--companions-from"} <= everything["merge"]
    assert (
        everything["report"] == {None, "--out", "--allow-changed"}
        and None in everything["evaluate"]
    )


def test_commands_get_expanded_arguments(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["merge", "--pretrained=~/theta", "--finetuned", "~/a", "--output=~/out"]) == 2
    assert f"{tmp_path}/theta" in capsys.readouterr().err
    assert main(["evaluate", "model", "folder:~/images"]) == 2
    assert f"{tmp_path}/images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_a_leading_tilde_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    same = ["a~/b", "--x=a~/b", "x:~/y", "~ a {}", "~x", "--exclude=~*", "a ~/b", "--seed=1", "-x"]
    assert as_meant(same) == same
    assert as_meant(["~", "--x=~", "folder:~/a b/c@3", "--x=folder:~/y", "~/run:ties@0.5"]) == [
        "/home/me",
        "--x=/home/me",
        "folder:/home/me/a b/c@3",
        "--x=folder:/home/me/y",
        "/home/me/run:ties@0.5",
    ]


def test_another_users_home(tmp_path, monkeypatch):
    home = os.path.expanduser("~root")
    assert as_meant(["--out=~root/x"]) == [f"--out={home}/x"]
    with pytest.raises(UserError, match=r"no user nobody-here .* or \./~nobody-here/x for a"):
        as_meant(["--out=~nobody-here/x"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-here" / "x").mkdir(parents=True)
    assert as_meant(["~nobody-here/x"]) == ["~nobody-here/x"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["run", "class", "--out", ""],
            "error: --out has an empty value: set the shell's",
        ),
        (["run", "class", "--model.source="], "error: --model.source has an empty value"),
        (["evaluate", ""], "error: a word is empty"),
    ],
)
def test_empty_values_are_refused(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_the_last_of_repeated_flags_counts_and_a_note_says_so(capsys):
    assert given_again(["--merges", "a", "--seed=1", "--merges=b"]) == [
        "--merges is given several times: only the last one counts"
    ]
    assert main(["merge", "--finetuned", "a", "--finetuned", "b", "--scale=1", "--scale", "2"]) == 2
    note, _ = capsys.readouterr().err.splitlines()
    assert note == "note: --scale is given several times: only the last one counts"
