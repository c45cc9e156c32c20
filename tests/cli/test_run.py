"""`python -m experiments.run`: what it runs, and how user errors look."""

import json
import shutil
import subprocess
import sys

import pytest

from magmax_jax.api.presets import PRESETS
from magmax_jax.cli.run import main, parse
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import exit_code


@pytest.fixture
def small(tiny_clip, tmp_path) -> list[str]:
    """Arguments that make a preset quick."""
    return [
        f"--model.source={tiny_clip}",
        "--scenario.dataset=digits",
        "--scenario.num-tasks=5",
        "--scenario.limit-per-class=5",
        "--train.epochs=1",
        "--train.batch-size=4",
        f"--out={tmp_path / 'run'}",
    ]


def refused(capsys, *argv: str) -> str:
    """The one-sentence error for a command line."""
    code = exit_code(lambda: main(list(argv)))
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_flags_change_every_part_of_a_preset(tmp_path):
    flags = (
        "class --model.image-size 112 --scenario.num-tasks 5 --train.warmup-fraction 0.1 "
        "--method.no-sequential --method.regularizer l2_sp --method.strength 0.1 "
        "--train.freeze visual_projection.* *.layers.[01].* "
        "--merges average max_magnitude@0.7 --seed 3 --out here"
    )
    launch = parse(flags.split())
    config = launch.config
    assert (config.model.image_size, config.scenario.num_tasks, config.seed) == (112, 5, 3)
    assert config.train.warmup_fraction == 0.1 and not config.method.sequential
    assert (config.method.regularizer, config.method.strength) == ("l2_sp", 0.1)
    assert config.train.freeze == ("visual_projection.*", "*.layers.[01].*")
    assert config.merges == ("average", "max_magnitude@0.7")
    assert str(launch.out) == "here"
    assert str(parse(["quickstart"]).out) == "runs/quickstart"


def test_one_flag_sets_the_papers_unstated_choices_and_others_override_it():
    def config(flags):
        return parse(flags.split()).config

    plain = config("class --train.warmup-fraction 0.1 --method.regularizer ewc")
    assert (plain.method.fisher, plain.merging.ties_entries) == ("empirical", "tower")
    changed = config("quickstart --preset paper --method.regularizer ewc")
    assert (changed.train.warmup_steps, changed.train.warmup_fraction) == (500, None)
    assert (changed.method.fisher, changed.merging.ties_entries) == ("accumulated", "clip")
    assert changed.merging.average_divisor == "tasks"
    assert config("domain --preset paper").merging.average_divisor == "two"
    mine = config(
        "class --preset paper --train.warmup-fraction 0.2 --merging.ties-entries tower "
        "--scenario.names plain --train.epochs 3"
    )
    assert (mine.train.warmup_fraction, mine.merging.ties_entries) == (0.2, "tower")
    assert (mine.scenario.names, mine.train.epochs) == ("plain", 3)


def test_a_run_ends_with_its_table_and_its_config_runs_it_again(small, tmp_path, capsys):
    assert exit_code(lambda: main(["class", *small, "--train.learning-rate=1e-3"])) == 0
    shown = capsys.readouterr().out
    for words in ("zero-shot", "last fine-tuned", "max_magnitude@0.5", "forgetting", "images/s"):
        assert words in shown
    assert "of the 500 steps of warm-up: their learning rate reaches" in " ".join(shown.split())
    assert (tmp_path / "run" / "report" / "accuracy.png").stat().st_size > 10_000
    rows = (tmp_path / "run" / "results.jsonl").read_text()
    config = tmp_path / "run" / "config.json"
    again = tmp_path / "again"
    assert exit_code(lambda: main(["--config", str(config), "--out", str(again)])) == 0
    assert (again / "results.jsonl").read_text() == rows
    assert (again / "config.json").read_text() == config.read_text()


def test_a_run_of_another_configuration_is_not_overwritten(small, tmp_path, capsys):
    assert exit_code(lambda: main(["class", *small])) == 0
    before = (tmp_path / "run" / "results.jsonl").read_text()
    error = refused(capsys, "class", *small, "--seed=9")
    assert "seed: 5 there, 9 here" in error and "--overwrite" in error
    assert (tmp_path / "run" / "results.jsonl").read_text() == before
    assert exit_code(lambda: main(["class", *small, "--seed=9", "--overwrite"])) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 9


def test_unknown_names_list_the_known_ones(small, capsys):
    assert "choose from quickstart, styles, class, time, domain, datasets" in refused(
        capsys, "quikstart"
    )
    assert "max_magnitude" in refused(capsys, "class", *small, "--merges", "tyes")
    assert "mnits" in refused(capsys, "class", *small, "--scenario.dataset=mnits")


def test_invalid_input_gives_one_sentence_and_leaves_no_files(small, tiny_clip, tmp_path, capsys):
    def spoil(name, content: bytes | None) -> str:
        """A copy of the model with one file replaced or removed."""
        copy = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_clip, copy)
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        return f"--model.source={copy}"

    weights = (tiny_clip / "model.safetensors").read_bytes()
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_clip, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    for arguments, words in [
        ([spoil("model.safetensors", weights[:-100])], "model.safetensors is not a complete"),
        ([spoil("model.safetensors", b"no weights at all")], "model.safetensors holds text"),
        ([spoil("config.json", None)], "neither config.json"),
        ([spoil("config.json", b"{")], "config.json"),
        ([f"--model.source={pickled}"], "pytorch_model.bin is a pickle"),
        ([f"--model.source={tmp_path / 'nowhere'}"], "nowhere"),
        (["--scenario.num-tasks=3"], "digits has 10 classes; scenario.num_tasks=3 leaves"),
        (["--scenario.num-tasks=11"], "digits has 10 classes"),
        (["--scenario.dataset=folder"], "data_dir"),
        (["--scenario.dataset=folder", f"--scenario.data-dir={tmp_path / 'none'}"], "none"),
        (["--scenario.kind=domain"], "has no domains"),
        (["--model.image-size=13"], "not a multiple of this model's patch"),
        (["--train.freeze", "text_model.*"], "'text_model.*' matches no parameter"),
        (["--mesh.fsdp=2"], "does not divide the number of devices, which is 1"),
    ]:
        assert words in refused(capsys, "class", *small, *arguments)
        assert not (tmp_path / "run").exists()


def test_a_diverging_run_exits_with_one(small, capsys):
    wild = ["--train.learning-rate=1e30", "--train.warmup-steps=0"]
    assert exit_code(lambda: main(["class", *small, *wild])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: task 1 (1/5): the loss is nan") and error.count("\n") == 1


def test_a_wrong_flag_exits_with_two(small, capsys):
    for arguments in (["--train.epoch=3"], ["--train.epochs=three"]):
        with pytest.raises(SystemExit) as ended:
            main(["class", *small, *arguments])
        assert ended.value.code == 2
        assert "epoch" in capsys.readouterr().err
    assert "train.epochs is -1" in refused(capsys, "class", *small, "--train.epochs=-1")


def test_a_missing_configuration_file_is_named(capsys, tmp_path):
    assert "there is no such configuration file" in refused(capsys, "--config", str(tmp_path / "c"))
    assert "--config needs a FILE" in refused(capsys, "--config")


def test_help_lists_the_presets(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PRESETS) and "--config FILE" in shown


def test_presets_are_distinct_configurations():
    configs = [config for _, config in PRESETS.values()]
    assert all(isinstance(config, ExperimentConfig) for config in configs)
    assert len(set(configs)) == len(configs)


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "experiments.run", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: 'nothing' is not a preset: choose from quickstart, styles, class, time, domain, "
        "datasets, folder, or --config FILE\n"
    )
