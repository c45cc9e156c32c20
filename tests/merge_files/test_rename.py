"""`--rename`, and where a merge's notes are printed."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.merge_files.state import read_state
from tests.merge_files.conftest import merge, write

OURS = ["stem.weight", "blocks.0.attn.q.weight", "blocks.1.attn.q.weight"]


@pytest.fixture
def command(tmp_path):
    """A command that merges models with these tensor names into theta_0."""

    def make(*models):
        base = {name: np.full((2, i + 1), 1, np.float32) for i, name in enumerate(OURS)}
        write(tmp_path / "base", base)
        for k, names in enumerate(models):
            tuned = {n: np.full((2, i + 1), 2 + i, np.float32) for i, n in enumerate(names)}
            write(tmp_path / f"m{k}", tuned)
        places = [tmp_path / f"m{k}" for k in range(len(models))]
        flags = ["--rule", "average", "--scale", 1, "--output", tmp_path / "out"]
        return ["--pretrained", tmp_path / "base", "--finetuned", *places, *flags]

    return make


@pytest.mark.parametrize(
    "rules",
    [
        [["layers.*.sa.*=blocks.*.attn.*", "root.=stem."]],
        [["layers.*=blocks.*", "*.sa.*=*.attn.*"], ["root.weight=stem.weight"]],
    ],
)
def test_rules_apply_one_after_another(command, tmp_path, rules):
    theirs = ["root.weight", "layers.0.sa.q.weight", "layers.1.sa.q.weight"]
    flags = [word for flag in rules for word in ("--rename", *flag)]
    assert merge(*command(theirs, OURS), *flags) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    for i, name in enumerate(OURS):
        np.testing.assert_array_equal(found[name], np.full((2, i + 1), 2 + i))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("nothing", "'nothing': write PATTERN=REPLACEMENT"),
        ("=stem", "write PATTERN=REPLACEMENT"),
        ("a.*=*.b.*", "has more * after the = than before it"),
        ("nosuch.*=stem.*", "'nosuch.*=stem.*' matches no tensor that theta_0 lacks"),
        ("x.*.weight=stem.weight", "--rename gives both x.1.weight and x.2.weight the name stem"),
    ],
)
def test_invalid_rules(command, capsys, tmp_path, rule, words):
    assert merge(*command([*OURS, "x.1.weight", "x.2.weight"]), "--rename", rule) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_notes_are_printed_by_the_merge_itself(command, tmp_path, capsys):
    names = [f"module.{name}" for name in OURS]
    assert merge(*command(names)) == 0
    shown = capsys.readouterr()
    assert shown.err == f"note: reads names of {tmp_path / 'm0'} without the prefix module.\n"
    assert "note:" not in shown.out
    assert merge(*command(names), "--dry-run") == 0
    assert shown.err.strip() in capsys.readouterr().out


def test_flags_with_several_values_may_be_repeated(command, tmp_path):
    given = command(OURS, OURS)
    models = ["--finetuned", given[3], "--finetuned", given[4]]
    flags = ["--exclude", OURS[0], "--exclude", OURS[1], "--state", tmp_path / "state"]
    assert merge(*given[:2], *models, *given[5:], *flags) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert [float(found[name].mean()) for name in OURS] == [1, 1, 4]
    assert len(read_state(tmp_path / "state")[0].tasks) == 2


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_quiet_prints_no_notes(command, capsys, flags):
    assert merge(*command([f"module.{name}" for name in OURS]), "--quiet", *flags) == 0
    shown = capsys.readouterr()
    assert "note:" not in shown.out + shown.err


def test_lists_have_at_most_twenty_lines(command, tmp_path, capsys):
    given = command(OURS)
    repeated = [*given[:3], *[tmp_path / "m0"] * 40, *given[4:]]
    assert merge(*repeated) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20 and lines[-1] == "and 20 more"
    missing = [*given[:3], *[tmp_path / f"none-{i}" for i in range(40)], *given[4:]]
    assert merge(*missing, "--dry-run") == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) <= 20 and "and 29 more" in shown.err
    assert len(shown.out.splitlines()) <= 20
