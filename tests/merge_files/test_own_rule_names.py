"""`magmax merge --rule module:function`, and states of these rules."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from tests.helpers.own_rules import forget, own  # noqa: F401
from tests.merge_files.conftest import COUNTER, expected, merge, sources

pytestmark = pytest.mark.usefixtures("own")


def assert_same_bits(directory, content) -> None:
    found = load_file(directory / "model.safetensors")
    for name in content.keys() - {COUNTER}:
        assert found[name].tobytes() == np.asarray(content[name]).tobytes(), name


def test_files_are_merged_with_the_bits_of_memory(models, tmp_path, capsys):
    flags = ["--rule", "my_rules:median", "--options", "k=3", "--scale", 0.5]
    assert merge(*sources(models), *flags, "--dry-run") == 0
    assert "my_rules:median of 3 models at scale 0.5, in chunks" in capsys.readouterr().out
    assert merge(*sources(models), *flags, "--output", tmp_path / "out") == 0
    rule = mm.rules.named("my_rules:median", k=3)
    assert_same_bits(tmp_path / "out", expected([1, 2, 3], rule, 0.5))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`my_rules:median`, k=3 at scale 0.5" in card


@pytest.fixture
def state(models, tmp_path, capsys):
    """The state of `my_rules:halves` after one model, as a new process finds it."""
    path = tmp_path / "state"
    first = ["--pretrained", models[0], "--finetuned", models[1], "--state", path]
    assert merge(*first, "--rule", "my_rules:halves", "--output", tmp_path / "first") == 0
    forget("my_rules")
    capsys.readouterr()
    return path


def test_a_state_continues_if_the_user_names_the_rule_again(state, models, tmp_path, capsys):
    more = ["--finetuned", *models[2:], "--state", state, "--output", tmp_path / "more"]
    assert merge(*more) == 2
    assert capsys.readouterr().err == (
        f"error: {state} was created with my_rules:halves, and a file must not decide which "
        "module is imported: confirm it with --rule my_rules:halves\n"
    )
    assert merge(*more, "--rule", "average") == 2
    assert f"--rule is average, but {state} was created with my_rules" in capsys.readouterr().err
    assert "my_rules" not in sys.modules
    assert merge(*more, "--rule", "my_rules:halves") == 0
    assert_same_bits(tmp_path / "more", expected([1, 2, 3], mm.rules.named("my_rules:halves")))


def test_a_state_is_inspected_without_its_rule(state, capsys):
    assert main(["inspect", str(state)]) == 0
    assert "my_rules:halves, state of" in capsys.readouterr().out
    assert "my_rules" not in sys.modules


def test_a_missing_module_gives_one_sentence(state, models, own, tmp_path, capsys):  # noqa: F811
    (own / "my_rules.py").unlink()
    more = ["--finetuned", models[2], "--state", state, "--output", tmp_path / "more"]
    assert merge(*more, "--rule", "my_rules:halves") == 2
    message = "my_rules:halves: there is no module my_rules, neither installed nor in"
    assert f"error: {message} {own}\n" == capsys.readouterr().err


def test_invalid_input_gives_a_one_sentence_error(models, tmp_path, capsys):
    for flags, message in (
        (["my_rules:medain"], "my_rules has no medain (did you mean my_rules:median?"),
        (["my_rules:powered"], "my_rules:powered needs power"),
        (["my_rules:median", "--options", "n=1"], "no option 'n': its options are k"),
        (["my_rules:Median"], "my_rules:Median is a class"),
        (["my_rules:median", "--state", "state"], "needs all models at once"),
    ):
        assert merge(*sources(models), "--output", tmp_path / "out", "--rule", *flags) == 2
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") == 1
    assert not (tmp_path / "out").exists()
