"""`python -m experiments.evaluate`: any checkpoint, any scenario."""

import json
import shutil

import pytest
from PIL import Image

from magmax_jax.cli import evaluate
from magmax_jax.config import ExperimentConfig, ScenarioConfig
from magmax_jax.errors import exit_code
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.runs.evaluation_data import evaluation_scenario
from magmax_jax.runs.export import export


def main(*arguments) -> int:
    words = [*arguments, "--cache", "None"]
    return exit_code(lambda: evaluate.main(list(map(str, words))))


def facts(row):
    return row.after_task, row.protocol, row.group, row.accuracy, row.top5, row.count


def test_a_runs_models_get_the_accuracies_that_the_run_measured(done, tmp_path, capsys):
    """Also from a transformers directory, on the scenario that the flags give."""
    names = {"zero_shot": (0, None), "task:2": (2, None), "finetuned": (5, None)}
    sources = [f"{done.path}:{name}" for name in (*names, "max_magnitude@0.5")]
    assert main(*sources, "--out", tmp_path / "out", "--per-class") == 0
    found = read_rows(tmp_path / "out" / "results.jsonl")
    expected = [
        [facts(r) for r in done.rows() if (r.after_task, r.model) == key]
        for key in [(0, "zero_shot"), (2, "finetuned"), (5, "finetuned"), (5, "max_magnitude")]
    ]
    assert [[facts(r) for r in found if r.model == source] for source in sources] == expected
    assert len(list((tmp_path / "out" / "counts").iterdir())) == len(sources)
    shown = capsys.readouterr().out
    assert "class-incremental, 60 test images" in shown and "task 5" in shown

    export(done.path, "max_magnitude@0.5", tmp_path / "merged")
    flags = "--scenario.dataset digits --scenario.num-tasks 5 --scenario.limit-per-class 6"
    command = [tmp_path / "merged", *flags.split(), "--scenario.order", "random", "--seed", 3]
    assert main(*command, "--out", tmp_path / "again") == 0
    again = read_rows(tmp_path / "again" / "results.jsonl")
    assert [facts(r)[1:] for r in again] == [fact[1:] for fact in expected[-1]]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Three images of each of two classes, in test/ only."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    for number, name in enumerate(("circle", "square")):
        for image in range(3):
            path = root / "test" / name / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (100 * number, 80 * image, 0)).save(path)
    return root


def test_a_folder_of_images_is_evaluated_without_flags(tiny_clip, shapes, tmp_path, capsys):
    assert main(tiny_clip, shapes) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "shapes, class-incremental, 6 test images" in shown and "note: " not in shown
    bare = shapes / "test"
    assert main(bare, tiny_clip, "--dtype", "float32") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "shapes/test, class-incremental, 6 test images" in shown and "note: " not in shown
    renamed = shutil.copytree(bare, tmp_path / "figures")
    assert main(tiny_clip, renamed) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: figures has no train/ and test/: all of its 6 images are test images" in shown


def test_a_folder_of_images_can_be_spelled_in_many_ways(tiny_clip, done, shapes):
    """Next to a run it is also one task, however many tasks the run had."""
    for words in (
        (tiny_clip, f"folder:{shapes}"),
        (tiny_clip, "--scenario.dataset", f"folder:{shapes}"),
        (tiny_clip, "--scenario.dataset", "folder", "--scenario.data-dir", shapes),
        (tiny_clip, f"{done.path}:task:2", shapes),
    ):
        chosen = evaluate.parse(list(map(str, words)))
        scenario = evaluation_scenario(chosen.sources, chosen.scenario, chosen.seed)
        assert [len(task.test) for task in scenario.tasks] == [6]
        assert chosen.sources[0] == str(tiny_clip) and str(shapes) not in chosen.sources


def test_a_runs_own_folder_is_evaluated_as_it_was_learned(shapes, tmp_path):
    """However it is spelled, and whatever is left of it."""
    scenario = ScenarioConfig(dataset="folder", data_dir=str(shapes), num_tasks=2)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(ExperimentConfig(scenario=scenario, seed=9).to_json())
    chosen = evaluate.parse([str(run), f"folder:{shapes}/../shapes"])
    assert (chosen.sources, chosen.scenario, chosen.seed) == ((str(run),), scenario, 9)


def test_a_run_that_chose_scales_is_evaluated_on_other_images(done, shapes, tmp_path):
    """Its configuration chooses scales on held-out images; a folder of images holds out none."""
    run = tmp_path / "run"
    shutil.copytree(done.path, run)
    config = ExperimentConfig.from_file(run / "config.json")
    chosen = config.replace(scenario={"validation": 0.1}, merging={"scales": "0.5,1"})
    (run / "config.json").write_text(chosen.to_json())
    assert main(run, shapes) == 0


def test_model_flags_are_those_of_a_run(done):
    chosen = evaluate.parse([str(done.path), "--model.image-size=16", "--model.dtype=bfloat16"])
    assert (chosen.image_size, chosen.dtype, chosen.scenario.num_tasks) == (16, "bfloat16", 5)


def test_a_finished_run_can_be_swept(done, capsys):
    command = (done.path, "--sweep.rules", "max_magnitude", "--sweep.scales", "0.25,0.5")
    assert main(*command) == 0
    assert "is best on 20 validation images" in capsys.readouterr().out
    lines = (done.path / "sweep.jsonl").read_text().splitlines()
    assert {json.loads(line)["scale"] for line in lines} == {0.25, 0.5}


def test_invalid_input_gives_a_one_sentence_error(done, tiny_clip, shapes, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, words in (
        ((), "no SOURCE is given"),
        ((f"{done.path}:best",), "contains no model 'best': choose finetuned"),
        ((f"{done.path}:task:9",), "contains no model of task 9"),
        ((tmp_path, "--scenario.dataset", "digits"), "contains no weights"),
        ((done.path, "--scenario.num-tasks", 11), "num_tasks=11 is more than that"),
        ((done.path, "--out", tmp_path / "full"), "already exists"),
        ((done.path, done.path, "--sweep.rules", "average"), "needs one RUN"),
        ((done.path, "--sweep.rules", "average", "--seed", 1), "leave out --scenario"),
        ((done.path, "--sweep.rules", "average", "--per-class"), "--out and --per-class"),
        ((done.path, "--image-size", 24), "was trained at its own size"),
        ((done.path, "--model.image-size", 24), "was trained at its own size"),
        ((tiny_clip, shapes / "test" / "circle"), "or a folder of images for each class"),
        ((shapes,), "is a folder of images: also name a model to evaluate on it"),
        ((done.path, shapes, shapes / "test"), "are both folders of images: name one"),
        ((done.path, shapes, "--scenario.dataset", "digits"), "the flags choose other data"),
        ((done.path, shapes, "--scenario.kind", "datasets"), "the flags choose other data"),
        ((done.path, tmp_path / "typo"), "there is no such directory"),
    ):
        assert main(*arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("error: ")
