"""Names of a run's models: parsing and formatting."""

from pathlib import Path

import pytest

from magmax_jax.errors import UserError
from magmax_jax.runs.model_ref import ModelRef, absolute, model_of_run


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("finetuned", ModelRef("finetuned")),
        ("zero_shot", ModelRef("zero_shot")),
        ("task:3", ModelRef("task", task=3)),
        ("ties", ModelRef("ties")),
        ("ties@1", ModelRef("ties", 1.0)),
        ("negmerge@-0.3", ModelRef("negmerge", -0.3)),
        ("max_magnitude@0.123456789", ModelRef("max_magnitude", 0.123456789)),
        ("task:many", ModelRef("task:many")),
        ("my_rules:median", ModelRef("my_rules:median")),
        ("package.module:factory@0.5", ModelRef("package.module:factory", 0.5)),
        ("finetuned@0.5", ModelRef("finetuned", 0.5)),
    ],
)
def test_names_round_trip(text, ref):
    assert ModelRef.parse(text) == ref and str(ref) == text


def test_other_names_are_merges_rather_than_trained_or_start_models():
    kinds = {"finetuned": 0, "zero_shot": 0, "task:1": 0, "ties": 1, "ties@2": 1, "finetuned@1": 1}
    assert {name: ModelRef.parse(name).is_merge for name in kinds} == kinds
    assert ModelRef.parse("zero_shot").is_zero_shot and ModelRef.parse("finetuned").is_finetuned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("average@", "merges: 'average@' needs a number after the @"),
        ("average@half", "merges: 'average@half' needs a number after the @"),
        ("average@inf", "merges: the scale of 'average@inf' is not finite: give a number"),
    ],
)
def test_a_scale_must_be_a_finite_number(text, message):
    with pytest.raises(UserError) as raised:
        ModelRef.parse(text, "merges")
    assert str(raised.value) == message


def test_a_run_path_may_contain_colons(tmp_path, monkeypatch):
    for name in ("run", "a:b"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
        run = tmp_path / name
        assert model_of_run(str(run)) == (run, ModelRef("finetuned"))
        assert model_of_run(f"{run}:task:2") == (run, ModelRef("task", task=2))
        assert model_of_run(f"{run}:ties@0.3") == (run, ModelRef("ties", 0.3))
        assert model_of_run(f"{run}:mod:fn@0.5") == (run, ModelRef("mod:fn", 0.5))
        assert model_of_run(f"{run}:task:fn") == (run, ModelRef("task:fn"))
        with pytest.raises(UserError, match="a number after the @"):
            model_of_run(f"{run}:ties@x")
    monkeypatch.chdir(tmp_path)
    assert model_of_run("a:b:mod:fn") == (Path("a:b"), ModelRef("mod:fn"))
    assert model_of_run("run:mod:fn") == (Path("run"), ModelRef("mod:fn"))
    assert absolute("run:mod:fn@1") == f"{tmp_path / 'run'}:mod:fn@1"
    assert absolute("run:ties@1") == f"{tmp_path / 'run'}:ties@1"
    assert absolute("run") == "run" and absolute("some/model") == "some/model"
    for other in (
        "openai/clip-vit-base-patch16",
        str(tmp_path),
        f"{tmp_path}/none:finetuned",
        "mod:fn",
        "mod:fn@0.5",
        "C:/a/b:mod:fn",
    ):
        assert model_of_run(other) is None
