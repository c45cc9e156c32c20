"""A merge's plan lists every problem at once, and notes what is legal but rarely intended."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.cli.main import main
from tests.merge_files.conftest import tensors, write


@pytest.fixture
def plan(tmp_path, capsys):
    """A dry run and a real one, which must agree; returns the dry run's output and problems."""

    def run(pretrained, *finetuned, flags=()) -> tuple[str, list[str]]:
        sources = ["--pretrained", pretrained, "--finetuned", *finetuned, *flags]
        arguments = ["merge", *map(str, sources), "--output", str(tmp_path / "out")]
        before = sorted(tmp_path.iterdir())
        capsys.readouterr()
        code = main([*arguments, "--dry-run"])
        dry = capsys.readouterr()
        assert sorted(tmp_path.iterdir()) == before
        problems = [
            line.removeprefix("problem: ")
            for line in dry.out.splitlines()
            if line.startswith("problem: ")
        ]
        assert code == (2 if problems else 0)
        assert main(arguments) == code
        if problems:
            assert capsys.readouterr().err == dry.err
            assert sorted(tmp_path.iterdir()) == before
            for problem in problems:
                assert problem in dry.err
        return dry.out, problems

    return run


def test_all_unreadable_sources_are_named_at_once(models, tmp_path, plan):
    (tmp_path / "empty").mkdir()
    torn = models[1] / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    short = tensors(2)
    del short["d"]
    write(models[2], short)
    expected = ["no such directory", "contains no weights", str(torn), f"{models[2]}: d is missing"]
    broken = [tmp_path / "none", tmp_path / "empty", models[1]]
    _, problems = plan(models[0], *broken, models[2])
    assert len(problems) == 4
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
    # theta_0 too: then there is nothing to compare the readable ones with.
    shown, problems = plan(tmp_path / "none", tmp_path / "empty", models[1], models[2])
    assert len(problems) == 3
    for problem, words in zip(problems, expected, strict=False):
        assert words in problem
    assert "3 models" in shown and "reads" not in shown and "merges" not in shown


def test_files_of_one_directory_are_distinguished(tmp_path, plan):
    for name, seed in (("base", 0), ("one", 1), ("two", 2)):
        content = tensors(seed)
        if name == "two":
            del content["d"]
        save_file(content, tmp_path / f"{name}.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in ("base", "one", "two")]
    _, problems = plan(*files)
    assert problems == [f"{files[2]}: d is missing"]


def test_a_configuration_that_would_make_the_output_unloadable(models, plan):
    (models[0] / "config.json").write_text("{")
    _, problems = plan(models[0], models[1], flags=["--out-dtype", "float16"])
    assert len(problems) == 1 and "config.json is not readable JSON" in problems[0]


def test_a_state_of_other_tensors_is_among_the_problems(models, tmp_path, plan):
    state = ["--state", str(tmp_path / "state")]
    first = ["--pretrained", str(models[0]), "--finetuned", str(models[1])]
    assert main(["merge", *first, *state, "--output", str(tmp_path / "first")]) == 0
    _, problems = plan(models[0], tmp_path / "none", flags=[*state, "--exclude", "d"])
    assert len(problems) == 2
    assert "no such directory" in problems[0] and "choice of tensors" in problems[1]


@pytest.mark.parametrize(
    ("rule", "count", "words"),
    [
        ("slerp", 3, "slerp merges 2 models, not 3"),
        ("model_stock", 1, "model_stock merges 2 or more models, not 1"),
        ("fisher", 2, "fisher needs every model's Fisher, which no checkpoint holds"),
        ("adam_weighted", 2, "adam_weighted needs every model's second moments of Adam, which no"),
    ],
)
def test_models_that_the_rule_cannot_take(models, plan, rule, count, words):
    _, problems = plan(*models[: count + 1], flags=["--rule", rule])
    assert len(problems) == 1 and problems[0].startswith(words)


def test_there_is_one_threshold_per_model(models, plan):
    flags = ["--rule", "ties", "--options", "thresholds=1,2"]
    _, problems = plan(*models, flags=flags)
    assert problems == ["--options: thresholds has 2 values for 3 models: give one for each"]


class TestTied:
    """The output embedding, if one checkpoint has it and the other does not."""

    @pytest.fixture
    def language(self, tmp_path):
        def make(name, seed, head: bool, ties: bool, key="tie_word_embeddings", apart=0):
            content = tensors(seed)
            if head:
                content["language_model.lm_head.weight"] = content["a.weight"] + np.float32(apart)
            directory = write(tmp_path / name, content)
            config = {key: ties} if key else {"text_config": {"tie_word_embeddings": ties}}
            (directory / "config.json").write_text(json.dumps(config))
            return directory

        return make

    @pytest.mark.parametrize("key", ["tie_word_embeddings", None])
    def test_theta_0_stores_the_copy(self, language, plan, key):
        base = language("base", 0, head=True, ties=True, key=key)
        shown, problems = plan(base, language("tuned", 1, head=False, ties=True))
        assert problems == []
        assert "lm_head.weight of" in shown and "is a.weight, to which it is tied" in shown

    @pytest.mark.parametrize("key", ["tie_word_embeddings", None])
    def test_theta_0_stores_something_that_is_not_a_copy(self, language, plan, key):
        base = language("base", 0, head=True, ties=True, key=key, apart=1)
        _, problems = plan(base, language("tuned", 1, head=False, ties=True))
        assert len(problems) == 1
        assert "language_model.lm_head.weight is missing: it is tied" in problems[0]
        assert "save theta_0 again with transformers' save_pretrained" in problems[0]

    def test_the_model_stores_the_copy(self, language, plan):
        base = language("base", 0, head=False, ties=True)
        shown, problems = plan(base, language("tuned", 1, head=True, ties=True))
        assert problems == []
        assert "is left out: it is a copy of the input embedding" in shown

    def test_the_model_is_untied(self, language, plan):
        base = language("base", 0, head=False, ties=True)
        tuned = language("tuned", 1, head=True, ties=False, apart=1)
        _, problems = plan(base, tuned)
        assert len(problems) == 1
        assert "lm_head.weight is not in theta_0: the model's output embedding is" in problems[0]
        flag, pattern = problems[0].split()[-2:]
        assert flag == "--exclude"
        assert plan(base, tuned, flags=[flag, pattern])[1] == []

    def test_only_the_model_ties_them(self, language, plan):
        base = language("base", 0, head=True, ties=False)
        tuned = language("tuned", 1, head=False, ties=True)
        _, problems = plan(base, tuned)
        assert len(problems) == 1
        flag, pattern = problems[0].split()[-2:]
        assert flag == "--exclude"
        assert plan(base, tuned, flags=[flag, pattern])[1] == []

    def test_an_untied_tensor_is_reported_as_missing(self, language, plan):
        base = language("base", 0, head=True, ties=False)
        tuned = language("tuned", 1, head=False, ties=False)
        assert plan(base, tuned)[1] == [f"{tuned}: language_model.lm_head.weight is missing"]
        short = tensors(2)
        del short["a.weight"]
        tuned = write(tuned, short)
        (tuned / "config.json").write_text('{"tie_word_embeddings": true}')
        base = language("other", 0, head=False, ties=True)
        assert plan(base, tuned)[1] == [f"{tuned}: a.weight is missing"]


class TestNotes:
    """Legal, so nothing is refused."""

    def test_one_model_twice(self, models, tmp_path, plan):
        (tmp_path / "link").symlink_to(models[1])
        shown, problems = plan(models[0], models[1], models[2], tmp_path / "link")
        assert f"note: {tmp_path / 'link'} is named more than once" in shown
        assert shown.count("note:") == 2 and not problems  # the other: a counter stays

    def test_theta_0_as_a_model(self, models, plan):
        shown, problems = plan(models[0], models[1], models[0])
        assert f"note: {models[0]} is theta_0 itself" in shown
        assert shown.count("note:") == 2 and not problems

    def test_different_models_are_not_noted(self, models, plan):
        assert plan(*models)[0].count("note:") == 1


def test_long_paths_and_brackets_are_shown_verbatim(models, tmp_path, plan):
    place = tmp_path / ("long " * 30) / "[bold]model"
    content = tensors(1)
    content["a.weight"] = np.zeros(3, np.float32)
    write(place, content)
    _, problems = plan(models[0], place)
    assert problems == [f"{place}: a.weight has shape [3], theta_0's [70, 30]"]
