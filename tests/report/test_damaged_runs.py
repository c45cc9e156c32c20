"""Runs with damaged files: reported without what is damaged, or refused in a sentence."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.report.groups import grouped
from magmax_jax.report.inputs import changed_starts
from magmax_jax.report.items import Table
from magmax_jax.report.runs import Run
from magmax_jax.report.section import sections
from tests.report.made_up import config, write


@pytest.fixture
def setting():
    return config(tasks=2, merges=("max_magnitude",))


@pytest.fixture
def path(tmp_path, setting):
    return write(tmp_path / "run", setting)


def items(path, setting) -> dict[str, list]:
    (group,) = grouped([Run(path, setting)])
    return {name: section.items(group) for name, section in sections()}


def edit(path, change) -> None:
    """Changes the JSON object in a file, or in its first line."""
    first, *rest = path.read_text().splitlines()
    content = json.loads(first)
    change(content)
    path.write_text("\n".join([json.dumps(content), *rest]) + "\n")


def test_a_part_of_an_evaluation_is_left_out(path, setting):
    rows = (path / "results.jsonl").read_text().splitlines(keepends=True)
    each = len(rows) // 5  # zero_shot, and two models after each of two tasks
    (path / "results.jsonl").write_text("".join(rows[: -each // 2]))
    run = Run(path, setting)
    assert len(run.rows) == 4 * each
    assert run.histories("aware").keys() == run.histories("agnostic").keys()
    assert items(path, setting)["summary"]


def test_rows_without_the_pretrained_model_are_no_evaluation(path, setting):
    edit(path / "results.jsonl", lambda row: row.update(group="other"))
    assert Run(path, setting).rows == []


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(classes=["one"]),
        lambda about: [start.pop("versions") for start in about["starts"]],
        lambda about: [start.clear() for start in about["starts"]],
        lambda about: about["starts"][0].update(versions=[1]),
        lambda about: about["tasks"][0].update(classes=[[0]]),
        lambda about: about.update(inputs={"data": [{"kind": 1}]}),
        lambda about: about.update(inputs={"models": {"model.source": []}}),
        lambda about: about.update(scenario=7),
    ],
)
def test_a_report_needs_nothing_of_about_json(path, setting, change):
    edit(path / "about.json", change)
    found = items(path, setting)
    assert any(
        isinstance(item, Table) and item.name.startswith("classes") for item in found["classes"]
    )


@pytest.mark.parametrize("name", ["contribution", "norms", "signs", "overhead", "similarity"])
def test_records_of_an_analysis_end_at_the_first_damaged_one(path, setting, name):
    file = path / "analysis" / f"{name}.jsonl"
    edit(file, lambda record: record.pop(next(iter(record))))
    assert Run(path, setting).analysis(name) == []
    assert items(path, setting)["summary"]


def test_a_start_without_its_time_is_still_named(path, setting):
    def change(about):
        about["starts"][1] = {"changed": ["the images"]}

    edit(path / "about.json", change)
    (said,) = changed_starts([Run(path, setting)])
    assert "was resumed at an unknown time even though its inputs had changed: the images." in said


def test_counts_of_another_number_of_classes_are_refused(path, setting):
    """Each file is sound by itself."""
    one = np.ones((2, 1, 2), np.uint8)
    confusions = np.array([[0, 0, 2], [1, 1, 2]], np.uint8)
    counts = {"agnostic": one, "aware": one, "total": one, "confusions": confusions}
    save_file(counts, path / "counts" / "000-zero_shot.safetensors")
    with pytest.raises(UserError, match=r"000-zero_shot\.safetensors is of 2 classes, but 002-"):
        items(path, setting)
