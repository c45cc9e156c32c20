"""The benchmark of evaluation at its smallest: nothing here is a claim about time."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.device import Device
from benchmarks.evaluate import COLUMNS, Grid, Settings, main, prepared, whole
from benchmarks.evaluation_work import Work, contenders, differing, make_data, theta_0
from benchmarks.turns import ROOT
from magmax_jax.data import load_source

FIELD = {one.name: one for one in contenders(at_once=2, workers=0)}
IMAGES, MODELS = 90, 3
TINY = ("--size", "tiny", "--images", "32", "--batch-size", "8", "--repeats", "1", "--tasks", "2")
FEW = (*TINY, "--grid", "2", "40", "--peak-sides", "64", "--workers", "0")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Digits for the small CLIP, with a head that has them all over the classes."""
    folder = tmp_path_factory.mktemp("work")
    path, shape, preprocessing = theta_0(folder, "tiny-clip", seed=0)
    data = make_data(folder / "data", IMAGES, 5, shape.projection, seed=0)
    source = load_source("digits", "test")
    images = np.stack([np.repeat(np.repeat(source.images[i], 4, 0), 4, 1) for i in range(IMAGES)])
    random = np.random.default_rng(0)
    np.save(data / "images.npy", images)  # of the tower's size: both sides see the same pixels
    np.save(data / "labels.npy", source.labels[:IMAGES])
    np.save(data / "classes.npy", random.permutation(10).astype(np.int32).reshape(5, 2))
    np.save(data / "head.npy", random.standard_normal((shape.projection, 10), np.float32))
    return Work(
        path, data, IMAGES, 5, 32, "float32", "cpu", preprocessing.mean, preprocessing.std
    ).of_models(MODELS)


@pytest.fixture(scope="module")
def ours(work):
    return right("ours, 2 models at once", work)


def right(name: str, work: Work, **options) -> list[dict[str, list[int]]]:
    """What a contender recognises of every task, by model and protocol; in this process."""
    contender = FIELD[name]
    module = importlib.import_module(contender.module)
    ready = module.prepare(json.loads(json.dumps(work.facts | contender.options | options)))
    ready.call()
    return ready.last()["right"]


@pytest.mark.parametrize("name", ["official way", "torch, compiled, one pass"])
def test_peers_recognise_what_ours_does(work, ours, name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    assert right(name, work, compiled=False) == ours
    assert len(ours) == MODELS and len({str(found) for found in ours}) > 1
    for found in ours:
        agnostic, aware = (np.array(found[protocol]) for protocol in ("agnostic", "aware"))
        assert (agnostic <= aware).all() and 0 < agnostic.sum() < aware.sum() < IMAGES


def test_pillow_rounds_pixels_to_bytes_and_ours_does_not(work, tmp_path):
    """Images that are resized: few predictions may differ, as the table tells."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    for file in work.data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    np.save(tmp_path / "images.npy", np.load(work.data / "images.npy")[:, ::4, ::4])
    small = replace(work, data=tmp_path)
    mine, theirs = right("ours", small), right("official way", small)
    apart = np.abs(np.subtract([m["agnostic"] for m in mine], [t["agnostic"] for t in theirs]))
    assert apart.sum() <= 0.02 * MODELS * IMAGES


def test_contenders_are_told_in_one_table(tmp_path):
    lonely, output = tmp_path / "python", tmp_path / "results.md"
    lonely.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without any package
    lonely.chmod(0o755)
    flags = (*FEW, "--peers", str(lonely), "--only", "ours", "official way")
    assert not main([*flags, "--output", str(output)])
    head, _, ours, absent = map(
        cells_of, (line for line in output.read_text().splitlines() if line.startswith("| "))
    )
    assert head == COLUMNS
    assert ours[0] == "ours" and ours[-1] == "equal" and float(ours[1].replace(",", "")) > 0
    assert float(ours[4]) >= 0 and float(ours[5]) == 1
    assert absent[0] == "official way" and absent[1].startswith("absent: ModuleNotFoundError")
    first, limit, row = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "32 images in 2 tasks" in first["environment"]["timed"]
    assert limit["flops"] > 0 and row["name"] == "ours" and len(row["rates"]) == 1
    assert row["grid"][0] > 0 and row["grid"][1] is True and row["facts"]["memory"] > 2**20


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_would_take_too_long_is_computed(work):
    settings = Settings(grid=(10, 1000), at_most=5)
    found = whole(settings, FIELD["ours"], work, rate=100.0)
    assert found == Grid(100.0, measured=False) and str(found) == "100, computed"


def test_defaults_fit_the_device(tmp_path):
    cpu, gpu = (Device(name, "", 1, 0) for name in ("cpu", "gpu"))
    grid = {"size": "tiny", "grid": (10, 200)}
    timed, whole, _ = prepared(Settings(**grid), tmp_path, tmp_path / "cpu", cpu)
    assert (timed.dtype, timed.batch_size, timed.tasks) == ("float32", 256, 2)
    assert (whole.images, whole.tasks) == (200, 10)
    timed, _, _ = prepared(Settings(**grid), tmp_path, tmp_path / "gpu", gpu)
    assert (timed.dtype, timed.batch_size, timed.images) == ("bfloat16", 512, 5120)
    labels, classes = (np.load(timed.data / f"{name}.npy") for name in ("labels", "classes"))
    shares = [np.isin(labels, own).sum() for own in classes]
    assert shares == [512] * 10  # as many images in every task, each in one


def test_differences_are_told():
    ours = [{"agnostic": [3, 4], "aware": [5, 6]}]
    assert differing(ours, ours * 2, 20) == "equal"
    theirs = [{"agnostic": [3, 4], "aware": [5, 4]}]
    assert differing(ours, theirs, 20) == "up to 2 images of a task, of 20 in all"


def test_mistakes_are_told_in_a_sentence(tmp_path, capsys):
    assert main([*FEW, "--peers", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "is no python that can be run" in error and error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main([*FEW, "--tasks", "0"])
    assert "--tasks is 0: choose 1 to 100" in capsys.readouterr().err


def test_the_parent_takes_no_device():
    program = (
        "from pathlib import Path; from tempfile import mkdtemp\n"
        "from benchmarks.device import Device\n"
        "from benchmarks.evaluate import Settings, prepared\n"
        "from jax._src.xla_bridge import backends_are_initialized\n"
        "work = Path(mkdtemp())\n"
        "prepared(Settings(size='tiny', grid=(1, 100)), work, work, Device('cpu', '', 1, 0))\n"
        "assert not backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
