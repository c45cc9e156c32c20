"""A run's directory: which process may write, and recovery from truncated files."""

import pytest

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.rooms import room_beside
from magmax_jax.runs.directory import RunDirectory

CONFIG = ExperimentConfig()
ROW = Row(1, "max_magnitude", 0.5, "agnostic", "all", 0.25, 8)


@pytest.fixture
def run(tmp_path):
    out = RunDirectory(tmp_path / "runs" / "one")
    assert not out.holds(CONFIG)
    out.start(CONFIG)
    return out


def test_rows_are_read_back_as_written(run):
    other = Row(0, "zero_shot", None, "aware", "task 1", 1 / 3, 3)
    run.append([ROW])
    run.append([other, ROW])
    assert run.rows() == [ROW, other, ROW]
    assert [row.label for row in run.rows()[:2]] == ["max_magnitude@0.5", "zero_shot"]


def test_a_truncated_last_line_is_not_a_row(run):
    run.append([ROW, ROW])
    file = run.path / "results.jsonl"
    file.write_text(file.read_text()[:-20])
    assert run.rows() == [ROW]


def test_the_same_configuration_is_recognised_and_another_refused(run):
    assert run.holds(CONFIG)
    with pytest.raises(UserError, match=r"train\.epochs: None there, 3 here.*--overwrite"):
        run.holds(ExperimentConfig(train=TrainConfig(epochs=3)))
    again = RunDirectory(run.path, overwrite=True)
    assert not again.holds(ExperimentConfig(train=TrainConfig(epochs=3)))


def test_moving_a_directory_and_leaving_a_link_keeps_the_configuration(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new / "model", new / "data", new / "other"):
        folder.mkdir(parents=True)
    old.symlink_to(new)

    def config(folder, model="model"):
        return ExperimentConfig(
            model=ModelConfig(str(folder / model)),
            scenario=ScenarioConfig(data_dir=str(folder / "data")),
        )

    run = RunDirectory(tmp_path / "run")
    run.start(config(old))
    assert run.differs(config(new)) == [] and run.holds(config(new))
    [other] = run.differs(config(new, "other"))
    assert other.startswith("model.source: ")
    [gone] = run.differs(config(tmp_path / "gone"))[:1]
    assert gone.startswith("model.source: ")


def test_restarting_removes_everything_of_the_earlier_run(run):
    run.append([ROW])
    (run.checkpoints / "1").mkdir(parents=True)
    run.report.mkdir()
    with room_beside(run.report) as room:
        pass
    (room / "report.old").mkdir(parents=True)  # as a process killed while it replaced one leaves it
    run.start(CONFIG)
    assert sorted(p.name for p in run.path.iterdir()) == ["config.json"]
    assert run.rows() == []


def test_a_run_without_a_complete_configuration_does_not_count(run):
    (run.path / "config.json").rename(run.path / "config.json.partial")
    assert not run.holds(CONFIG)


def test_counts_of_models_with_long_names_have_valid_file_names(run):
    assert run.counts_of(3, "module:rule@0.5").name == "003-module+rule@0.5.safetensors"
    long = "my_module:" + "ü" * 200
    names = {run.counts_of(1, label).name for label in (long, long + "@0.5", long + "@1")}
    assert len(names) == 3 and max(len(name.encode()) for name in names) <= 255 - 40


def test_foreign_files_are_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(UserError, match="is not empty, and what it holds is not a run"):
        RunDirectory(tmp_path, overwrite=True).holds(CONFIG)
    (tmp_path / "model" / "checkpoints").mkdir(parents=True)
    for content in (None, "{", '{"model_type": "clip"}'):
        if content:
            (tmp_path / "model" / "config.json").write_text(content)
        with pytest.raises(UserError, match="is not empty, and what it holds is not a run"):
            RunDirectory(tmp_path / "model", overwrite=True).holds(CONFIG)
    with pytest.raises(UserError, match="is a file"):
        RunDirectory(tmp_path / "thesis.tex").holds(CONFIG)


def test_only_one_of_several_processes_writes(tmp_path):
    other = RunDirectory(tmp_path / "run", writes=False)
    other.start(CONFIG)
    other.append([ROW])
    assert not other.path.exists()
    writer = RunDirectory(other.path)
    writer.start(CONFIG)
    writer.append([ROW])
    assert other.holds(CONFIG) and other.rows() == [ROW]


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RunDirectory(tmp_path / "file" / "run").start(CONFIG)
