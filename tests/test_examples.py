"""Examples run unmodified, offline, on data that they make or that comes with packages."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def run(name: str, cwd: Path) -> str:
    """Runs an example and returns its output."""
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_experiment_from_arrays_draws_its_rows(tmp_path):
    example = ROOT / "examples" / "from_arrays.py"
    assert len(example.read_text().splitlines()) <= 30
    for _ in range(2):  # the second one finds the run finished
        shown = run("from_arrays.py", tmp_path)
        picture = Image.open(tmp_path / "runs" / "from_arrays" / "accuracies.png")
        assert picture.size == (900, 600) and len(picture.convert("L").getcolors(256)) > 50
    assert "already contains this run" in shown


def test_one_class_is_forgotten_and_the_others_are_kept(tmp_path):
    _, *lines = run("forget_a_class.py", tmp_path).splitlines()
    table = {line[:20].rstrip(): [float(cell) for cell in line[20:].split()] for line in lines}
    (_, known, others), *merged = table.values()
    assert list(table)[-2:] == ["average", "negmerge"] and len(merged) == 3
    assert known > 85 and others > 90
    for scale, forgotten, kept in merged:
        assert scale < 0 and forgotten < known - 40 and kept > others - 8


def test_a_pytree_is_merged(tmp_path):
    shown = run("merge_a_pytree.py", tmp_path)
    entries = re.findall(r"(\S+) +task \d supplied +(\d+) of (\d+)", shown)
    supplied = Counter()
    for leaf, part, _ in entries:
        supplied[leaf] += int(part)
    assert supplied == {"first.bias": 0, "first.kernel": 32, "last.kernel": 16}
    assert "median moves theta_0 by" in shown


def test_a_deployed_model_is_updated_every_month(tmp_path):
    shown = run("monthly_update.py", tmp_path)
    accuracy = {name: float(value) for name, value in re.findall(r"(.+?) +([\d.]+) % of", shown)}
    assert list(accuracy) == ["pretrained", "last fine-tuned", "deployed"]
    assert accuracy["deployed"] > accuracy["last fine-tuned"] + 2
    assert len(re.findall("tuned-(?:january|february|march)", shown)) == 3  # in the state


def test_a_folder_of_images_is_learned(tmp_path):
    shown = run("own_images.py", tmp_path)
    lines = re.findall(r"^(\S+) +([\d.]+) % among all classes$", shown, re.MULTILINE)
    accuracy = {name: float(value) for name, value in lines}
    assert list(accuracy) == ["zero_shot", "finetuned", "max_magnitude@0.5", "ema+lda@0.7"]
    assert accuracy["ema+lda@0.7"] > 80 > 65 > accuracy["finetuned"] > accuracy["zero_shot"]
    found = re.findall(r"the first (\w+) is recognised as a (\w+)", shown)
    assert len(found) == 4 and sum(name == label for name, label in found) >= 3


def test_image_towers_are_evaluated_and_merged(tmp_path):
    lines = run("evaluate_towers.py", tmp_path).splitlines()
    table = {line[:11].strip(): re.findall(r"([\w ]+): ([\d.]+) %", line) for line in lines[-4:]}
    assert list(table) == ["pretrained", "tower 1", "tower 2", "merged"]
    by_task = {name: {g.strip(): float(v) for g, v in groups} for name, groups in table.items()}
    for task in (1, 2):  # each tower is better than theta_0 at what it has learned
        own = f"task {task}"
        assert by_task[f"tower {task}"][own] > by_task["pretrained"][own]


def test_forgetting_is_analysed_and_reported(tmp_path):
    shown = run("forgetting.py", tmp_path)
    table = re.findall(r"^ +(\d+\.\d.*)$", shown.split("max_magnitude")[0], re.MULTILINE)
    accuracy = np.array([line.split() for line in table], float)[1:]  # after 1 to 5 tasks
    best = [accuracy[task:-1, task].max() for task in range(4)]
    of = r"%s: finetuned (-?[\d.]+), max_magnitude@0.5 (-?[\d.]+), average@1 .*, ema\S+ (\S+)"
    last = [float(value) for value in re.search(of % "Last accuracy, %", shown).groups()]
    forgetting = [float(value) for value in re.search(of % "Forgetting, points", shown).groups()]
    assert forgetting[0] == pytest.approx(np.mean(best - accuracy[-1, :4]), abs=0.11)
    assert forgetting[0] > forgetting[1] + 3  # merging forgets less than the last model,
    assert last[2] > last[1] + 5 > last[0] + 10  # and ends above it
    page = (tmp_path / "runs" / "forgetting" / "report" / "index.html").read_text()
    assert "sign" in page and "supplied" in page


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    """Its cells in order, in one namespace, as a kernel would run them."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text())
    assert notebook["nbformat"] == 4
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    shown = capsys.readouterr().out
    assert "max_magnitude  [ 4. -3.  1.  2.]" in shown
    assert shown.count(" agnostic ") == 3 and "recognised" in shown


def test_every_example_is_on_the_page():
    page = (ROOT / "docs" / "examples.md").read_text()
    for path in (ROOT / "examples").iterdir():
        assert f"`examples/{path.name}`" in page
