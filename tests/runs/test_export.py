"""A run's models as directories, and runs as inputs of `magmax merge`."""

import contextlib
import dataclasses
import errno
import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import Interrupted, UserError
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.export import export, unlearned
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run


@pytest.fixture(scope="module")
def runs(tiny_clip, tmp_path_factory):
    """Two small runs with different seeds."""
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=("max_magnitude", "average"),
        eval_batch_size=32,
    )
    directory = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        run(dataclasses.replace(config, seed=seed), RunDirectory(directory / str(seed)))
    return [directory / "1", directory / "2"]


def tower(directory):
    return nnx.state(mm.CLIP.from_pretrained(directory).vision)


def test_the_last_model_and_every_merge_are_exported(runs, tiny_clip, tmp_path):
    models = ("finetuned", "zero_shot", "max_magnitude", "max_magnitude@1", "average@0.25")
    for model in models:
        export(runs[0], model, tmp_path / model)
    found = {model: tower(tmp_path / model) for model in models}
    theta_0 = tower(tiny_clip)
    jax.tree.map(np.testing.assert_array_equal, found["zero_shot"], theta_0)
    states = {
        name: jax.eval_shape(mm.rules.named(name).init, theta_0)
        for name in ("max_magnitude", "average")
    }
    with Checkpoints(runs[0] / "checkpoints") as checkpoints:
        _, _, state = checkpoints.restore(lambda note: {"finetuned": theta_0, "merges": states})
    jax.tree.map(np.testing.assert_array_equal, found["finetuned"], state["finetuned"])
    tau = state["merges"]["max_magnitude"]
    for model, scale in (("max_magnitude", 0.5), ("max_magnitude@1", 1.0)):
        expected = mm.apply_task_vector(theta_0, tau, scale)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), found[model], expected
        )
    mean = mm.rules.average().finalize(state["merges"]["average"])
    expected = mm.apply_task_vector(theta_0, mean, 0.25)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), found["average@0.25"], expected
    )
    text = "text_model.encoder.layers.0.mlp.fc1.weight"
    ours, theirs = (load_file(d / "model.safetensors") for d in (tmp_path / "finetuned", tiny_clip))
    np.testing.assert_array_equal(ours[text], theirs[text])


def test_the_model_and_its_card_appear_together_or_not_at_all(runs, tmp_path, monkeypatch):
    write = Path.write_text

    def full(path: Path, *args, **kwargs):
        if path.name == "README.md":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="out cannot be written"):
            mm.export(runs[0], tmp_path / "out")
    assert not list(tmp_path.iterdir())
    mm.export(runs[0], tmp_path / "out")
    assert "`finetuned` of a continual-learning run" in (tmp_path / "out/README.md").read_text()


def test_runs_are_merged_like_checkpoints(runs, tiny_clip, tmp_path, capsys):
    exported = [tmp_path / "1", tmp_path / "2"]
    for path, directory in zip(runs, exported, strict=True):
        export(path, "finetuned", directory)

    def merge(*finetuned, output) -> dict[str, np.ndarray]:
        command = ["merge", "--pretrained", tiny_clip, "--finetuned", *finetuned]
        assert main(list(map(str, [*command, "--output", tmp_path / output]))) == 0
        return load_file(tmp_path / output / "model.safetensors")

    expected, found = merge(*exported, output="a"), merge(*runs, output="b")
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    # a re-saved tokenizer of theta_0 is not a difference
    assert "note" not in capsys.readouterr().err
    card = (tmp_path / "b" / "README.md").read_text()
    assert "`1`" in card and "`2`" in card and str(tmp_path) not in card

    scaled = merge(runs[0], f"{runs[1]}:average@0.5", output="c")
    assert any((scaled[name] != found[name]).any() for name in found)


def test_inspect_reads_a_run(runs, capsys):
    assert main(["inspect", f"{runs[0]}:max_magnitude"]) == 0
    assert "vision_model.encoder" in capsys.readouterr().out


def test_models_that_a_run_lacks_are_reported(runs, tmp_path, capsys):
    with pytest.raises(
        UserError, match=r"contains no model 'ties': choose finetuned, zero_shot, task:NUMBER or"
    ):
        export(runs[0], "ties", tmp_path / "out")
    with pytest.raises(UserError, match="needs a number after the @"):
        export(runs[0], "average@x", tmp_path / "out")
    command = ["merge", "--pretrained", runs[0], "--finetuned", f"{runs[0]}:ties"]
    assert main(list(map(str, [*command, "--output", tmp_path / "out"]))) == 2
    assert "contains no model 'ties'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_checkpoint_has_only_theta_0(runs, tmp_path):
    bare = tmp_path / "bare"
    (bare / "checkpoints").mkdir(parents=True)
    config = json.loads((runs[0] / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config))
    export(bare, "zero_shot", tmp_path / "start")
    with pytest.raises(UserError, match="no checkpoint"):
        export(bare, "finetuned", tmp_path / "out")


class Interrupting(NullProgress):
    """Requests that the run stop after the first step."""

    @contextlib.contextmanager
    def training(self, name, steps, images, first=0):
        yield lambda step, metrics: step == 0 and signal.raise_signal(signal.SIGTERM)


def test_theta_0_of_an_untrained_run_is_labelled_as_such(runs, tiny_clip, tmp_path, capsys):
    out = RunDirectory(tmp_path / "run")
    config = ExperimentConfig.from_file(runs[0] / "config.json")
    long = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=10))
    with pytest.raises(Interrupted):
        run(long, out, Interrupting())

    words = ["export", str(out.path), "--output", str(tmp_path / "exported")]
    assert main(words) == 0
    said = f"{out.path} has not learned its first task yet, so these are the weights of zero_shot"
    assert capsys.readouterr().err == f"note: {said}\n"
    found = tower(tmp_path / "exported")
    jax.tree.map(np.testing.assert_array_equal, found, tower(tiny_clip))
    assert unlearned(out.path, "max_magnitude@1") == said
    assert unlearned(out.path, "zero_shot") is unlearned(runs[0], "finetuned") is None


def test_preprocessing_that_differs_in_transformers_is_noted(tiny_clip, tmp_path):
    clip = shutil.copytree(tiny_clip, tmp_path / "clip")
    (clip / "preprocessor_config.json").write_text('{"resize_mode": "longest", "crop_size": 16}')
    config = ExperimentConfig(
        model=ModelConfig(str(clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=1, limit_per_class=1),
        train=TrainConfig(epochs=1, batch_size=8),
        merges=(),
        eval_batch_size=32,
    )
    run(config, RunDirectory(tmp_path / "run"))
    said = []
    export(tmp_path / "run", "finetuned", tmp_path / "out", say=said.append)
    (note,) = said
    assert note.startswith("note: images are padded to squares (OpenCLIP's resize_mode longest)")
