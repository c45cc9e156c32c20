"""Runs with quantised task vectors: what stays exact, what is restored, how they resume."""

import dataclasses
import json
import os
import shutil
import signal
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.task_bits import main as task_bits
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import Interrupted, UserError
from magmax_jax.merging import merged, rules, task_vector
from magmax_jax.merging.quantised import dequantise, quantise
from magmax_jax.merging.task_vectors import tree_bytes
from magmax_jax.runs import state
from magmax_jax.runs.build import build_run
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.export import export
from magmax_jax.runs.merge_specs import parse_merges
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.notes import notes_of
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device


@pytest.fixture(scope="module")
def exact(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=4),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def config(exact) -> ExperimentConfig:
    return exact.replace(checkpoint={"task_bits": 8}, merges=("ties", "max_magnitude"))


@pytest.fixture(scope="module")
def parts(config):
    return build_run(config, build_scenario(config.scenario, config.seed), one_device())


@pytest.fixture(scope="module")
def runs(exact, config, tmp_path_factory):
    """The exact run and the quantised one."""
    directory = tmp_path_factory.mktemp("runs")
    for name, each in (("exact", exact), ("bits", config)):
        run(each, RunDirectory(directory / name))
    return directory


@pytest.fixture
def stored(runs, parts):
    return ModelStore(runs / "bits", parts.theta_0, parts.merges)


def same(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_training_and_streaming_merges_are_exact(runs, parts, stored):
    before = ModelStore(
        runs / "exact", parts.theta_0, {"max_magnitude": parts.merges["max_magnitude"]}
    )
    same(stored.finetuned(), before.finetuned())
    rows = [
        {row for row in RunDirectory(runs / name).rows() if row.model != "ties"}
        for name in ("exact", "bits")
    ]
    assert rows[0] == rows[1]


def test_a_lost_task_ends_the_run_while_it_can_still_be_written(exact, tmp_path, monkeypatch):
    """A checkpoint of the next task holds theta_t no more."""
    save = Checkpoints.save

    def lost(checkpoints, number, trees, note):
        save(checkpoints, number, trees, note)
        if checkpoints.directory.name == "tasks":
            checkpoints._manager.wait_until_finished()
            shutil.rmtree(checkpoints.directory / str(number))

    with monkeypatch.context() as patch, pytest.raises(UserError, match="tasks/1 cannot be"):
        patch.setattr(Checkpoints, "save", lost)
        run(exact, RunDirectory(tmp_path / "run"))
    run(exact, RunDirectory(tmp_path / "run"))
    with Checkpoints(tmp_path / "run" / "tasks", keep=None) as tasks:
        assert tasks.numbers == [1, 2]


def test_tasks_are_restored_from_their_quantised_task_vectors(runs, parts, stored):
    before = ModelStore(runs / "exact", parts.theta_0, {})
    assert stored.tasks == [1, 2]
    for number in stored.tasks:
        tau = task_vector(before.task(number), parts.theta_0)
        found = task_vector(stored.task(number), parts.theta_0)
        kept = dequantise(quantise(tau, 8))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, kept)
        assert any(leaf.any() for leaf in jax.tree.leaves(task_vector(tau, kept)))


def test_the_state_is_quantised_and_its_merge_close_to_the_exact_one(runs, parts, stored):
    before = ModelStore(runs / "exact", parts.theta_0, {})
    few = stored.state("ties")
    taus = [task_vector(before.task(t), parts.theta_0) for t in (1, 2)]
    assert tree_bytes(few) < 0.3 * tree_bytes(taus)  # of rows that are short
    assert {leaf.dtype for leaf in jax.tree.leaves(few)} == {jnp.dtype("uint8")}
    found = merged(parts.merges["ties"].rule, few, parts.theta_0, 0.5)
    expected = merged(rules.ties(), tuple(taus), parts.theta_0, 0.5)
    changed = [task_vector(theta, parts.theta_0) for theta in (found, expected)]
    size, error = (
        sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree))
        for tree in (changed[1], task_vector(*changed))
    )
    assert 0 < error < 0.05 * size


def test_an_interrupted_run_ends_with_the_same_bits(runs, config, parts, stored, tmp_path):
    class Impatient(NullProgress):
        @contextmanager
        def training(self, name, steps, images, first=0):
            def on_step(step, metrics):
                if step == 1 and "2/2" in name:
                    os.kill(os.getpid(), signal.SIGINT)

            yield on_step

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted):
            run(config, RunDirectory(tmp_path / "x"), Impatient())
    finally:
        signal.signal(signal.SIGINT, before)
    rows = run(config, RunDirectory(tmp_path / "x"))
    assert rows == RunDirectory(runs / "bits").rows()
    again = ModelStore(tmp_path / "x", parts.theta_0, parts.merges)
    same(again.state("ties"), stored.state("ties"))
    same(again.task(2), stored.task(2))


def test_other_rules_are_made_from_the_kept_tasks(config, parts, stored):
    merges = parse_merges(dataclasses.replace(config, merges=("consensus",)))
    rule, (scale,) = merges["consensus"]
    found = merged(rule, stored.state("consensus", merges["consensus"]), parts.theta_0, scale)
    taus = tuple(task_vector(stored.task(number), parts.theta_0) for number in (1, 2))
    expected = merged(rules.consensus(), taus, parts.theta_0, scale)
    size, error = (
        sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(task_vector(*pair)))
        for pair in ((expected, parts.theta_0), (found, expected))
    )
    assert error < 0.05 * size


@pytest.mark.parametrize(
    ("model", "noted"),
    [("task:1", True), ("ties", True), ("max_magnitude", False), ("finetuned", False)],
)
def test_exported_models_say_that_they_are_quantised(runs, tmp_path, model, noted):
    said = []
    export(runs / "bits", model, tmp_path / "x", say=said.append)
    note = f"note: {model} is made of task vectors that the run keeps in 8 bits"
    assert said == ([note] if noted else [])


def test_a_run_says_what_it_quantises(parts):
    def notes(**changes):
        return notes_of(dataclasses.replace(parts, config=parts.config.replace(**changes)))

    assert "tasks/, ties: task vectors are kept in 8 bits per entry" in notes()
    assert "ties: task vectors are kept in 8 bits per entry" in notes(
        **{"checkpoint.keep_tasks": False}
    )
    assert not any("bits" in note for note in notes(**{"checkpoint.task_bits": None}))
    streaming = {"max_magnitude": parts.merges["max_magnitude"]}
    nothing = dataclasses.replace(
        parts, merges=streaming, config=parts.config.replace(**{"checkpoint.keep_tasks": False})
    )
    assert any("--checkpoint.task-bits 8 changes nothing" in note for note in notes_of(nothing))


def test_the_estimate_counts_the_bytes(exact, config, parts):
    found = estimate(config, data_size(config.scenario, config.seed))
    assert found.nbytes == state.bytes_needed(parts)
    assert found.nbytes < estimate(exact, data_size(exact.scenario, exact.seed)).nbytes


def test_the_field_is_left_out_of_json_until_it_is_set(exact, config, tmp_path):
    assert "task_bits" not in json.loads(exact.to_json())["checkpoint"]
    (tmp_path / "config.json").write_text(config.to_json())
    assert ExperimentConfig.from_file(tmp_path / "config.json") == config
    for wrong in (5, True, "8", 8.5):
        with pytest.raises(UserError, match=r"checkpoint: task_bits: .* is not one of 8, 4, 3"):
            config.replace(checkpoint={"task_bits": wrong})
    assert repr(config.replace(**{"checkpoint.task_bits": 4.0}).checkpoint.task_bits) == "4"


@pytest.mark.slow
def test_the_benchmark_compares_a_run_with_itself_quantised(runs, capsys):
    assert task_bits([str(runs / "exact"), "--bits", "3"]) == 0
    rows = [line.split("|")[1:5] for line in capsys.readouterr().out.splitlines() if "|" in line]
    exact, few = ([cell.strip() for cell in row] for row in rows[2:])
    assert (exact[0], exact[3], few[0]) == ("float32", "0.00 0.00", "3")
    assert float(few[2]) < 0.2 * float(exact[2]) and few[3] != exact[3]
    assert task_bits([str(runs / "bits")]) == 2
    assert "keeps no exact models of its tasks" in capsys.readouterr().err
