"""A run's record of theta_0 and data: changes are refused, and both are found from anywhere."""

import contextlib
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import load_file, save_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.data import DataSet, Source
from magmax_jax.data.files import places
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.registry import DATA_SETS
from magmax_jax.report.groups import grouped
from magmax_jax.report.items import Note
from magmax_jax.report.runs import find
from magmax_jax.report.sections import reproducibility
from magmax_jax.report.write import write as report_write
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.fingerprint import Fingerprint, data_of, directories, fingerprint
from magmax_jax.runs.locate import paths_of, stored_config
from magmax_jax.runs.recorded import Compared, as_json, changes, check_present, checking
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from tests.data import SHARED, needs_shared

RUN = Path("runs/a")
CONFIG = ExperimentConfig(
    model=ModelConfig("model"),
    scenario=ScenarioConfig(dataset="folder", data_dir="pics", num_tasks=2),
    train=TrainConfig(epochs=1, batch_size=4, learning_rate=1e-3, warmup_fraction=0.1),
    checkpoint=CheckpointConfig(keep_tasks=True),
    merges=("max_magnitude",),
    eval_batch_size=8,
)


@pytest.fixture(scope="module")
def made(tiny_clip, tmp_path_factory):
    """A folder with a model, images, and a run that names both by relative paths."""
    root = tmp_path_factory.mktemp("made") / "here"
    shutil.copytree(tiny_clip, root / "model")
    for split, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            (root / "pics" / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (16, 16), (120 * label, 60 * i, 0))
                image.save(root / "pics" / split / name / f"{i}.png")
    with contextlib.chdir(root):
        run(CONFIG, RunDirectory(RUN))
    return root


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of that folder as the working directory, as if the run had been made there."""
    root = tmp_path / "here"
    shutil.copytree(made, root)
    about, files = root / RUN / "about.json", root / RUN / "data_files.json.gz"
    about.write_text(about.read_text().replace(str(made), str(root)))
    listed = gzip.decompress(files.read_bytes()).replace(str(made).encode(), str(root).encode())
    files.write_bytes(gzip.compress(listed))
    monkeypatch.chdir(root)
    return root


def about(run: Path = RUN) -> dict:
    return json.loads((run / "about.json").read_text())


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_weights() -> None:
    weights = load_file("model/model.safetensors")
    noise = np.random.default_rng(0)
    changed = {
        name: np.asarray(tensor + noise.normal(size=tensor.shape), tensor.dtype)
        for name, tensor in weights.items()
    }
    save_file(changed, "model/model.safetensors")


def add_image() -> None:
    shutil.copy("pics/train/cat/0.png", "pics/train/cat/2.png")


def remove_image() -> None:
    Path("pics/train/dog/1.png").unlink()


def larger_image() -> None:
    Image.new("RGB", (40, 40), (1, 2, 3)).save("pics/test/dog/0.png")


def check() -> None:
    """Compares model and data with the record, like commands that read both."""
    config = stored_config(RUN)
    compared = Compared(RUN, config, build_scenario(config.scenario, config.seed))
    with checking([compared], False, print):
        pass


CHANGES = {
    "the weights of theta_0 at {root}/model (model.safetensors)": other_weights,
    "the tokenizer of theta_0 at {root}/model (tokenizer.json)": lambda: edit(
        Path("model/tokenizer.json"), version="1.1"
    ),
    "the preprocessing of theta_0 at {root}/model (preprocessor_config.json)": lambda: edit(
        Path("model/preprocessor_config.json"), image_mean=[0.4, 0.5, 0.5]
    ),
    "the configuration of theta_0 at {root}/model (config.json)": lambda: edit(
        Path("model/config.json"), logit_scale_init_value=1.0
    ),
    "the images under {root}/pics (1 file added)": add_image,
    "the images under {root}/pics (1 file removed)": remove_image,
    "the images under {root}/pics (1 file of another size)": larger_image,
}


@pytest.mark.parametrize("said", CHANGES)
def test_changes_are_named(here, said):
    check()
    CHANGES[said]()
    with pytest.raises(UserError) as refused:
        check()
    assert f"changed since: {said.format(root=here)}; restore" in str(refused.value)
    assert "--allow-changed" in str(refused.value)


def test_several_changes_are_named_together(here):
    other_weights()
    add_image()
    larger_image()
    with pytest.raises(
        UserError, match=r"theta_0 .*; the images .*1 file added, 1 file of another"
    ):
        check()


def test_the_same_content_is_the_same_model(here):
    """With other shard names, in another layout, or saved by another version of transformers."""
    edit(Path("model/config.json"), transformers_version="99.0")
    for file in ("tokenizer_config.json", "preprocessor_config.json"):
        path = Path("model") / file
        path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    weights = Path("model/model.safetensors")
    shard = weights.with_name("model-00001-of-00001.safetensors")
    weights.rename(shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(shard), shard.name)}
    (shard.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copytree("pics", "copied")
    shutil.rmtree("pics")
    Path("copied").rename("pics")
    check()


COMMANDS = {
    "run": lambda: [
        "run", "--config", str(RUN / "config.json"), "--out", str(RUN), "--cache", "None"
    ],
    "evaluate": lambda: ["evaluate", f"{RUN}:max_magnitude", "--out", "out", "--cache", "None"],
    "sweep": lambda: ["evaluate", str(RUN), "--sweep.rules", "max_magnitude", "--cache", "None"],
    "analyse": lambda: ["analyse", str(RUN), "--only", "norms", "--cache", "None"],
    "export": lambda: ["export", str(RUN), "--output", "out"],
    "merge": lambda: ["merge", "--pretrained", "model", "--finetuned", str(RUN), "--output", "out"],
    "inspect": lambda: ["inspect", str(RUN)],
}  # fmt: skip
READ_DATA = {"run", "evaluate", "sweep", "analyse"}


SLOWLY = [
    each if each == "export" else pytest.param(each, marks=pytest.mark.slow) for each in COMMANDS
]


@pytest.mark.parametrize("name", SLOWLY)
def test_every_command_refuses_other_weights_unless_overridden(here, name, capsys):
    other_weights()
    before = sorted(here.rglob("*"))
    assert main(COMMANDS[name]()) == 2
    refused = capsys.readouterr().err
    assert (
        refused.startswith("error: ") and "runs/a was made with inputs that have changed" in refused
    )
    assert f"the weights of theta_0 at {here}/model" in refused
    assert sorted(here.rglob("*")) == before
    assert main([*COMMANDS[name](), "--allow-changed"]) == 0
    said = " ".join(" ".join(capsys.readouterr()).split())
    assert "note: runs/a was made with inputs that have changed" in said and "ones are used" in said


@pytest.mark.parametrize("name", SLOWLY)
def test_commands_that_read_the_images_refuse_other_images(here, name, capsys):
    add_image()
    code = main(COMMANDS[name]())
    refused = capsys.readouterr().err
    assert code == (2 if name in READ_DATA else 0), refused
    assert ("1 file added" in refused) == (name in READ_DATA)


@pytest.mark.parametrize("change", [other_weights, add_image])
def test_a_report_refuses_changes_in_whatever_is_present(here, change, monkeypatch, capsys):
    change()
    assert main(["report", str(RUN), "--out", "out"]) == 2
    assert "allow-changed" in capsys.readouterr().err and not Path("out").exists()
    with pytest.raises(UserError, match="made with inputs that have changed"):
        mm.report(RUN)
    # Drawing the page takes seconds and is tested elsewhere.
    monkeypatch.setattr("magmax_jax.report.write.build", lambda runs, out, program: out)
    _, _, said = report_write([RUN], Path("out"), allow_changed=True)
    assert len(said) == 1 and "the changed ones are used" in said[0]
    shutil.rmtree("model")
    shutil.rmtree("pics")
    assert report_write([RUN], Path("out")).notes == []


@pytest.mark.slow
def test_other_data_is_not_compared(here):
    shutil.copytree("pics", "others")
    add_image()
    assert main(["evaluate", str(RUN), "others", "--out", "out", "--cache", "None"]) == 0


@pytest.mark.slow
def test_python_takes_a_keyword(here, capfd):
    other_weights()
    with pytest.raises(UserError, match=r"weights of theta_0.*allow_changed=True"):
        mm.export(RUN, "out")
    assert mm.export(RUN, "out", allow_changed=True) == Path("out")
    with pytest.raises(UserError, match="weights of theta_0"):
        mm.evaluate(RUN, progress=False, keep_compiled=False)
    assert mm.evaluate(RUN, progress=False, keep_compiled=False, allow_changed=True)
    rows = {"progress": False, "keep_compiled": False}
    with pytest.raises(UserError, match="weights of theta_0"):
        mm.run(CONFIG, RUN, **rows)
    assert mm.run(CONFIG, RUN, allow_changed=True, **rows) == read_rows(RUN / "results.jsonl")


@pytest.mark.slow
def test_a_start_with_changed_inputs_is_recorded_and_reported(here):
    rows = RunDirectory(RUN).rows()
    RunDirectory(RUN).keep(rows[:-1])  # as an interruption would have left them
    larger_image()
    with pytest.raises(UserError, match="of another size"):
        run(CONFIG, RunDirectory(RUN))
    assert len(about()["starts"]) == 1
    run(CONFIG, RunDirectory(RUN), allow_changed=True)
    first, second = about()["starts"]
    assert "changed" not in first
    assert second["changed"] == [f"the images under {here}/pics (1 file of another size)"]
    check()  # the record is that of the latest start
    assert "its inputs had changed: the images under" in notes(RUN)


@pytest.mark.slow
def test_all_processes_of_a_run_are_refused_together(here):
    RunDirectory(RUN).keep(RunDirectory(RUN).rows()[:-1])
    other_weights()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    several = ["--distributed", "--coordinator", address, "--processes", "2", "--process"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "magmax_jax", *COMMANDS["run"](), *several, number],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(mm.__file__).parents[1])},
        )
        for number in ("0", "1")
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 2 and "the weights of theta_0" in said, said
    assert len(about()["starts"]) == 1


@pytest.mark.slow
def test_overwriting_records_the_inputs_again(here):
    other_weights()
    run(CONFIG, RunDirectory(RUN, overwrite=True))
    assert [list(start) for start in about()["starts"]] == [list(about()["starts"][0])]
    check()


def test_a_run_from_before_inputs_were_recorded_continues(here, capsys):
    rows = RunDirectory(RUN).rows()
    old = about()
    del old["inputs"]
    (RUN / "about.json").write_text(json.dumps(old))
    (RUN / "data_files.json.gz").unlink()
    other_weights()
    check()
    assert f"note: {RUN} was made before runs recorded" in capsys.readouterr().out
    assert stored_config(RUN) == CONFIG
    RunDirectory(RUN).keep(rows[:-1])
    run(CONFIG, RunDirectory(RUN))
    assert set(about()["inputs"]) == {"models", "data", "paths"}
    check()
    assert capsys.readouterr().out == ""
    add_image()
    with pytest.raises(UserError, match="1 file added"):
        check()


def test_without_the_file_list_the_number_of_files_is_reported(here):
    (RUN / "data_files.json.gz").unlink()
    add_image()
    with pytest.raises(UserError, match=r"the images under .*/pics \(7 files of [\d,]+ bytes\)"):
        check()


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"x": 1}', b'{"x": {"a": null}}', None])
def test_a_damaged_file_list_counts_as_none(tmp_path, content):
    damaged = gzip.compress(b'{"x": {}}' * 9)[:-12] + b"\xff" * 12
    file = tmp_path / "data_files.json.gz"
    file.write_bytes(damaged if content is None else gzip.compress(content))
    entry = {"dataset": "x", "kind": "folder", "path": "x", "files": 2, "bytes": 9, "digest": "2"}
    now = Fingerprint(data=[entry], sizes={"x": {"a": 4, "b": 5}})
    (said,) = changes(tmp_path, {"data": [entry | {"digest": "1"}]}, now)
    assert said == "the images under x (2 files of 9 bytes)"


@pytest.mark.slow
def test_relative_paths_are_found_from_another_directory(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = stored_config(here / RUN)
    assert found.model.source == f"{here}/model" and found.scenario.data_dir == f"{here}/pics"
    for command in (
        ["evaluate", str(here / RUN), "--out", "evaluated", "--cache", "None"],
        ["export", str(here / RUN), "--output", "exported"],
    ):
        assert main(command) == 0, capsys.readouterr().err
    # The configuration keeps the path as written, and the same command resumes.
    assert run(CONFIG, RunDirectory(here / RUN)) == RunDirectory(here / RUN).rows()
    spelled = CONFIG.replace(model={"source": f"{here}/model"})
    assert RunDirectory(here / RUN).differs(spelled) == []


def test_another_model_of_the_same_name_is_skipped(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(here / "model", "model")
    assert stored_config(here / RUN).model.source == "model"  # the same files
    other_weights()
    assert stored_config(here / RUN).model.source == f"{here}/model"


def test_a_run_that_moved_with_its_inputs_finds_them(here, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    here.rename(moved)
    monkeypatch.chdir(tmp_path)
    (moved / RUN).rename(moved / "runs" / "renamed")
    found = stored_config(moved / "runs" / "renamed")
    assert found.model.source == f"{moved}/model" and found.scenario.data_dir == f"{moved}/pics"
    monkeypatch.chdir(moved)
    assert stored_config(Path("runs/renamed")) == CONFIG
    monkeypatch.chdir(moved / "runs")
    spelled = CONFIG.replace(model={"source": "../model"}, scenario={"data_dir": "../pics"})
    assert RunDirectory(Path("renamed")).differs(spelled) == []


def test_the_recorded_path_of_a_missing_source_is_reported(here, capsys):
    shutil.rmtree("model")
    assert main(["export", str(RUN), "--output", "out"]) == 2
    assert f"{here}/model: there is no such directory" in capsys.readouterr().err
    shutil.rmtree("pics")
    assert main(["evaluate", str(RUN), "--cache", "None"]) == 2
    assert f"{here}/pics: there is no such folder" in capsys.readouterr().err
    assert check_present([RUN]) == []  # a report reads neither


def notes(where: Path | str) -> str:
    """A report's notes on how to reproduce the numbers."""
    [group] = grouped(find([Path(where)])[0])
    items = reproducibility.items(group)
    return " ".join(item.text for item in items if isinstance(item, Note))


def test_runs_that_read_different_models_of_one_name_are_not_compared(here):
    shutil.copytree(RUN, "runs/b")
    changed = about()
    changed["inputs"]["models"]["model.source"]["weights"] = {"model.safetensors": "0" * 64}
    changed["inputs"]["models"]["model.source"]["path"] = "/gone"
    Path("runs/b/about.json").write_text(json.dumps(changed))
    edit(Path("runs/b/config.json"), seed=6)
    assert "the weights of model differed between sequential" in notes("runs")
    assert "not the same" not in notes(RUN)


def test_a_model_that_no_longer_fits_is_named_as_changed(here):
    weights = load_file("model/model.safetensors")
    weights["visual_projection.weight"] = np.zeros((2, 3), np.float32)
    save_file(weights, "model/model.safetensors")
    with pytest.raises(UserError, match=r"changed since: the weights of theta_0 at "):
        mm.export(RUN, "out")
    RunDirectory(RUN).keep(RunDirectory(RUN).rows()[:-1])
    with pytest.raises(UserError, match=r"changed since: the weights of theta_0 at "):
        run(CONFIG, RunDirectory(RUN))


def test_a_model_of_the_hub_is_the_snapshot_that_the_run_read(here, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
    repository = here / "hub" / "models--acme--clip"
    old, new = repository / "snapshots" / "0a", repository / "snapshots" / "1b"
    shutil.copytree("model", old)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a")
    edit(RUN / "config.json", model={"source": "acme/clip"})
    inputs = about()["inputs"]
    inputs["paths"] = {"acme/clip": [str(old), "../../hub/models--acme--clip/snapshots/0a"]}
    edit(RUN / "about.json", inputs=inputs)
    assert stored_config(RUN).model.source == str(old)
    other_weights()
    shutil.copytree("model", new)  # main moved
    (repository / "refs" / "main").write_text("1b")
    assert stored_config(RUN).model.source == str(old)
    shutil.rmtree(old)
    assert stored_config(RUN).model.source == "acme/clip"
    (here / "acme").mkdir()  # offline and without a cache, a directory may replace it
    shutil.copytree(new, "acme/clip")
    with pytest.raises(UserError, match=r"the weights of theta_0 at .*acme/clip \(model"):
        mm.export(RUN, "out")


def test_folders_among_several_data_sets_are_found(here, tmp_path, monkeypatch):
    datasets = ("folder:pics", "folder:more@3", "digits")
    scenario = ScenarioConfig(kind="datasets", datasets=datasets)
    config = ExperimentConfig(model=ModelConfig("model"), scenario=scenario)
    shutil.copytree("pics", "more")
    found = fingerprint(directories(config), data_of(scenario))
    record = as_json(found, paths_of(RUN, config, config, directories(config)))
    edit(RUN / "about.json", inputs=record)
    (RUN / "config.json").write_text(config.to_json())
    assert stored_config(RUN) == config
    monkeypatch.chdir(tmp_path)
    shutil.copytree(here / "pics", "pics")
    (tmp_path / "pics" / "train" / "cat" / "0.png").unlink()  # not the recorded one
    moved = stored_config(here / RUN).scenario.datasets
    assert moved == (f"folder:{here}/pics", f"folder:{here}/more@3", "digits")


def test_data_without_known_files_is_compared_by_pixels():
    shade = 3

    def read(split, data_dir):
        labels = np.arange(8, dtype=np.int32) % 2
        return Source(np.full((8, 4, 4, 3), shade, np.uint8), labels, ("a", "b"))

    config = ScenarioConfig(dataset="shades", num_tasks=2)
    DATA_SETS.register("shades", DataSet(name="shades", read=read))
    try:
        before = fingerprint({}, data_of(config, build_scenario(config, 0)))
        again = fingerprint({}, data_of(config, build_scenario(config, 0)))
        assert changes(RUN, as_json(before, {}), again) == []
        shade = 4
        now = fingerprint({}, data_of(config, build_scenario(config, 0)))
        assert changes(RUN, as_json(before, {}), now) == ["the images of shades"]
        # Data that is not read is not compared.
        assert changes(RUN, as_json(before, {}), fingerprint({}, data_of(config))) == []
    finally:
        DATA_SETS.unregister("shades")


@needs_shared("tensorflow_datasets/cifar100")
def test_files_of_a_prepared_data_set_are_its_shards():
    [place] = places("cifar100", str(SHARED / "tensorflow_datasets"))
    sizes = place.sizes()
    assert place.kind == "shards" and "cifar100" in place.path
    assert sizes and all("-of-" in name and size > 0 for name, size in sizes.items())
