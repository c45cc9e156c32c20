"""Experiments on arrays, from Python: run, resumed, evaluated, reported, exported."""

import json
import os
import shutil
import signal
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import magmax_jax
import magmax_jax.report
from magmax_jax.api import evaluate, export, run
from magmax_jax.cli import evaluate as evaluate_command
from magmax_jax.cli import run as run_command
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.data import Source
from magmax_jax.errors import Interrupted, UserError, exit_code
from magmax_jax.models import CLIP
from magmax_jax.report import page
from magmax_jax.report.render import Picture
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.progress import NullProgress

RNG = np.random.default_rng(0)
NAMES = ("ant", "bee", "cow", "dog")


def images(copies: int) -> Source:
    """Noise around one grey level per class."""
    labels = np.repeat(np.arange(4), copies)
    noise = RNG.integers(0, 40, (len(labels), 16, 16))
    return Source((60 * labels[:, None, None] + noise).astype(np.uint8), labels, NAMES)


TRAIN, TEST = images(6), images(3)


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(num_tasks=2),
        train=TrainConfig(epochs=1, batch_size=4, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        eval_batch_size=16,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run on arrays, made outside the main thread; and its rows."""
    out, rows = tmp_path_factory.mktemp("runs") / "x", []

    def work():
        rows.extend(run(config, str(out), train=TRAIN, test=TEST, progress=False))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    return SimpleNamespace(out=out, rows=rows)


def facts(row):
    return row.protocol, row.group, row.accuracy, row.count


def test_the_rows_are_those_of_the_directory(finished):
    assert finished.rows and finished.rows == RunDirectory(finished.out).rows()
    assert {row.count for row in finished.rows if row.group == "all"} == {len(TEST)}
    about = json.loads((finished.out / "about.json").read_text())
    assert about["scenario"] == "arrays, class-incremental" and about["classes"] == list(NAMES)
    assert (finished.out / "report" / "accuracy.png").is_file()


def test_the_same_call_returns_the_rows_and_other_arrays_are_refused(config, finished):
    def again(**changes):
        given = {"train": TRAIN, "test": TEST, "progress": False} | changes
        return run(config, finished.out, **given)

    assert again() == finished.rows
    as_lists = Source(list(TEST.images), TEST.labels.tolist(), list(NAMES))
    assert again(test=as_lists) == finished.rows
    with pytest.raises(UserError, match="holds a run of other images than those passed"):
        again(test=TRAIN)
    with pytest.raises(UserError, match="holds a run of images passed as train and test"):
        again(train=None, test=None)
    with pytest.raises(UserError, match="test is missing: pass train and test together"):
        again(test=None)
    assert RunDirectory(finished.out).rows() == finished.rows


def test_an_interrupted_run_is_resumed_by_the_same_call(config, finished, tmp_path):
    class Impatient(NullProgress):
        @contextmanager
        def training(self, name, steps, images, first=0):
            def on_step(step, metrics):
                if step == 1:
                    os.kill(os.getpid(), signal.SIGINT)

            yield on_step

    given = {"train": TRAIN, "test": TEST}
    # A shell starts background jobs with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted, match="holds everything so far: the same call resumes it"):
            run(config, tmp_path / "x", **given, progress=Impatient())
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(RunDirectory(tmp_path / "x").rows()) < len(finished.rows)
    assert run(config, tmp_path / "x", **given, progress=False) == finished.rows


@pytest.mark.parametrize("config", ["quickstart", {"seed": 3}, None])
def test_an_invalid_configuration_is_named(config, tmp_path):
    with pytest.raises(UserError, match=r"config is .*: pass a configuration, such as mm.preset"):
        run(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_are_evaluated_on_arrays(config, finished, tmp_path, capsys):
    merged = export(finished.out, tmp_path / "merged", model="max_magnitude")
    models = {
        "run": str(finished.out),
        "merge": f"{finished.out}:max_magnitude",
        "directory": merged,
        "loaded": CLIP.from_pretrained(merged),
        "other": CLIP.from_pretrained(config.model.source),
    }
    rows = evaluate(models, test=TEST, out=tmp_path / "out", progress=False)
    assert rows == RunDirectory(tmp_path / "out").rows()
    expected = {
        name: [
            facts(row)
            for row in finished.rows
            if (row.after_task, row.model) == (0 if name == "zero_shot" else 2, name)
        ]
        for name in ("finetuned", "max_magnitude", "zero_shot")
    }
    found = {name: [facts(row) for row in rows if row.model == name] for name in models}
    assert found["run"] == expected["finetuned"]
    assert found["merge"] == found["directory"] == found["loaded"] == expected["max_magnitude"]
    assert found["other"] == expected["zero_shot"]
    assert capsys.readouterr().out == ""
    # No run among the models: one task of all classes.
    [row] = [
        row
        for row in evaluate(models["loaded"], test=TEST, progress=False)
        if (row.protocol, row.group) == ("agnostic", "all")
    ]
    assert (row.model, row.accuracy) == ("model 1", expected["max_magnitude"][0][2])


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([], {}, "there are no models"),
        ({"mine": 3}, {}, "mine is a int: pass a run, a directory"),
        ("nowhere/at/all", {"test": TEST}, "there is no such directory"),
        ("nowhere/at/all", {}, "no images are given: pass test=.*folder:DIR"),
        (None, {"test": "shapes"}, "'shapes' is a path.*dataset='folder:shapes'"),
        (None, {}, "was passed from Python.*pass them again"),
        (None, {"image_size": 24}, "was trained at its own size"),
        (None, {"test": (TEST.images[:5], [0, 1, 2, 3], NAMES)}, "test: there are 5 images and 4"),
        (None, {"test": TEST, "scenario": ScenarioConfig(num_tasks=9)}, "num_tasks=9 is more"),
        (None, {"test": TEST, "scenario": ScenarioConfig(kind="datasets")}, "choose another kind"),
        (None, {"test": TEST, "seed": -1}, "seed is -1: it must not be negative"),
        (None, {"test": TEST, "out": ""}, "out is empty: name a directory"),
    ],
)
def test_evaluation_errors_are_one_sentence(finished, models, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(finished.out if models is None else models, **options, progress=False)


def test_commands_ask_for_the_arrays(finished, tmp_path, capsys):
    config = str(finished.out / "config.json")
    for main, words in (
        (evaluate_command.main, [str(finished.out)]),
        (run_command.main, ["--config", config, "--out", str(tmp_path / "y")]),
    ):
        code, error = exit_code(partial(main, words)), capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1
        assert "was passed from Python" in error and "mm.evaluate" in error


@pytest.mark.parametrize("sweep", ["max_magnitude", ["max_magnitude"]])
def test_rules_are_swept_by_name(config, finished, sweep, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "x")
    run(config, out, train=TRAIN, test=TEST, sweep=sweep, progress=False)
    assert {row.model for row in RunDirectory(out).swept()} == {"max_magnitude"}


@pytest.mark.parametrize("sweep", [3, [3]])
def test_an_invalid_sweep_is_named(config, sweep, tmp_path):
    with pytest.raises(UserError, match=r"sweep is a .*: pass names of rules"):
        run(config, tmp_path / "x", sweep=sweep)


def test_an_impossible_output_path_is_named(config):
    for out, message in (
        ("", "^out is empty"),
        ("r" * 300, "^out is r.*: it contains a name of 300"),
    ):
        with pytest.raises(UserError, match=message):
            run(config, out, train=TRAIN, test=TEST, progress=False)


def test_a_directory_of_something_else_is_not_a_run(config, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="is not empty, and what it holds is not a run"):
        run(config, tmp_path, train=TRAIN, test=TEST, progress=False)


def test_the_report_is_a_page(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "render", lambda figure: Picture(b"<svg/>", b"png", (300, 200)))
    assert magmax_jax.report(str(finished.out), out=tmp_path / "r") == tmp_path / "r" / "index.html"
    assert "arrays, class-incremental" in (tmp_path / "r" / "index.html").read_text()
    with pytest.raises(UserError, match="no runs are given"):
        magmax_jax.report()
    with pytest.raises(UserError, match="a list is not a run directory: pass each run separately"):
        magmax_jax.report([finished.out])


def test_export_names_a_path_that_is_not_a_run(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        export(tmp_path, tmp_path / "out")


def test_rows_become_a_data_frame(finished):
    pandas = pytest.importorskip("pandas", reason="the package pandas is not installed")
    frame = pandas.DataFrame(finished.rows)
    assert len(frame) == len(finished.rows) and frame.accuracy[0] == finished.rows[0].accuracy
    last = frame[(frame.after_task == 2) & (frame.group == "all") & (frame.protocol == "agnostic")]
    assert set(last.model) == {"finetuned", "max_magnitude"}
