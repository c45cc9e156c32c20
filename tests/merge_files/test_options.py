"""`--options`: from the command line to the rule's arguments."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.merge_files import planner
from magmax_jax.merge_files.state import read_state
from tests.merge_files.conftest import COUNTER, expected, merge, sources

WEIGHTED = ["--rule", "weighted_average", "--options"]


@pytest.fixture
def given(monkeypatch, models):
    """The job's options for a command line."""

    def options(*texts: str) -> dict:
        seen = []
        stop = lambda job, opener: seen.append(job) or 1 / 0  # noqa: E731
        monkeypatch.setattr(planner, "make_plan", stop)
        with pytest.raises(ZeroDivisionError):
            main(["merge", "--options", *texts])
        return seen[0].options

    return options


def test_values_are_parsed_by_their_form(given):
    assert given("a=1", "b-c=0.5", "d=true", "e=false", "f=global", "g=1e-3") == {
        "a": 1, "b_c": 0.5, "d": True, "e": False, "f": "global", "g": 1e-3,
    }  # fmt: skip
    assert given("weights=1,2.5,3") == {"weights": (1, 2.5, 3)}
    assert given("averaged=proj,embedding") == {"averaged": ("proj", "embedding")}


def refused(capsys, tmp_path, *arguments) -> str:
    capsys.readouterr()
    before = sorted(tmp_path.iterdir())
    assert merge(*arguments, "--output", tmp_path / "out") == 2
    assert sorted(tmp_path.iterdir()) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def assert_close(directory, weights, scale=None) -> None:
    content = expected(range(1, 1 + len(weights)), mm.rules.weighted_average(weights), scale)
    found = load_file(directory / "model.safetensors")
    for name in content.keys() - {COUNTER}:
        ours, theirs = (np.asarray(x, np.float32) for x in (found[name], content[name]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-2 if "half" in name else 1e-6, atol=1e-6)


def test_weights_follow_the_order_of_the_models(models, tmp_path):
    assert merge(*sources(models), *WEIGHTED, "weights=1,2,0.5", "--output", tmp_path / "out") == 0
    assert_close(tmp_path / "out", (1, 2, 0.5))
    assert merge(*sources(models[:2]), *WEIGHTED, "weights=3", "--output", tmp_path / "one") == 0
    assert_close(tmp_path / "one", (3,))


def test_a_state_may_have_weights_for_tasks_to_come(models, tmp_path, capsys):
    state, weights = tmp_path / "state", [*WEIGHTED, "weights=1,2"]
    first = ["--pretrained", models[0], "--finetuned", models[1], "--state", state]
    assert merge(*first, *weights, "--output", tmp_path / "first") == 0
    assert read_state(state)[0].options == {"weights": (1, 2)}
    more = ["--finetuned", models[2], "--state", state]
    assert "--options is" in refused(capsys, tmp_path, *more, "--options", "weights=2,1")
    # Repeating the same weights is allowed.
    assert merge(*more, *weights, "--output", tmp_path / "second") == 0
    assert_close(tmp_path / "second", (1, 2))
    before = state.read_bytes()
    error = refused(capsys, tmp_path, "--finetuned", models[3], "--state", state)
    assert f"{state} has 2 weights for 3 tasks" in error
    assert state.read_bytes() == before
    assert merge("--state", state, "--scale", 0.5, "--output", tmp_path / "half") == 0
    assert_close(tmp_path / "half", (1, 2), 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["weights=1,2"], "weights has 2 values for 3 models: give one for each"),
        (["weights=1,2,3,4"], "weights has 4 values for 3 models: give one for each"),
        (["weights=1,2,x"], "weighted_average cannot take weights=(1, 2, 'x')"),
        (["weights=1,2,"], "weighted_average cannot take weights=(1, 2, '')"),
        (["weights=1,0,3"], "give positive numbers"),
        ([f"weights=1,{10**400},3"], "give positive numbers"),
        (["density=1"], "weighted_average has no option 'density'"),
        (["weights"], "'weights' is not KEY=VALUE"),
        ([], "weighted_average needs weights"),
    ],
)
def test_options_that_do_not_fit(models, tmp_path, capsys, options, words):
    assert words in refused(capsys, tmp_path, *sources(models), *WEIGHTED, *options)


def test_one_value_for_many_and_many_for_one(models, tmp_path, capsys):
    """A single leaf name is not split into letters."""
    plain, out = tmp_path / "plain", tmp_path / "out"
    iso_c = [*sources(models), "--rule", "iso_c"]
    assert merge(*iso_c, "--output", plain) == 0
    assert merge(*iso_c, "--options", "averaged=xa", "--output", out) == 0
    found, content = (load_file(d / "model.safetensors") for d in (out, plain))
    np.testing.assert_array_equal(found["a.weight"], content["a.weight"])
    flags = ["--rule", "ties", "--options", "density=0.1,0.2"]
    assert "ties cannot take density=(0.1, 0.2)" in refused(
        capsys, tmp_path, *sources(models), *flags
    )


def test_values_given_by_the_user_are_not_computed(models, tmp_path):
    flags = ["--rule", "ties", "--options", "majority=1", "thresholds=9,9,9"]
    assert merge(*sources(models), *flags, "--output", tmp_path / "out") == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    base = load_file(models[0] / "model.safetensors")
    np.testing.assert_array_equal(found["d"], base["d"])  # no change is as large as 9
