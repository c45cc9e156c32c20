"""Studies of a small run, against its rows and against NumPy on its models."""

import json
import shutil

import jax
import numpy as np
import pytest

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from magmax_jax.models import CLIP
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.studies import STUDIES, accuracies, study
from magmax_jax.runs.train import run

TASKS = ["task 1", "task 2", "task 3"]
QUICK = [name for name in STUDIES if name != "overhead"]


class Said(NullProgress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(str(text))


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=3, allow_unequal=True, limit_per_class=6
        ),
        train=TrainConfig(epochs=2, batch_size=8, learning_rate=3e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude", "average@0.5"),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def studied(config, tmp_path_factory):
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "studied")
    run(config, out)
    with pytest.MonkeyPatch.context() as few:
        few.setattr(accuracies, "KEPT", (0.0, 0.2, 1.0))  # every share compiles a search
        study(out, QUICK, transfer_to=("digits_styles",))
    return out


@pytest.fixture(scope="module")
def taus(studied, tiny_clip):
    """The task vectors as arrays by leaf, reloaded."""
    _, theta_0 = CLIP.from_pretrained(tiny_clip).image_tower("float32")
    stored = ModelStore(studied.path, theta_0, {})

    def arrays(tree):
        found = jax.tree_util.tree_leaves_with_path(tree)
        return {rules.leaf_name(path): np.asarray(leaf) for path, leaf in found}

    start = arrays(theta_0)
    return [
        {name: leaf - start[name] for name, leaf in arrays(theta).items()}
        for theta in map(stored.task, (1, 2, 3))
    ]


def records(out, name):
    lines = (out.path / "analysis" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def accuracy(out, after, label, protocol, group):
    (row,) = (
        r
        for r in out.rows()
        if (r.after_task, r.label, r.protocol, r.group) == (after, label, protocol, group)
    )
    return row.accuracy


def flat(tau):
    return np.concatenate([leaf.ravel() for leaf in tau.values()]).astype(np.float64)


def test_pruning_ends_with_the_models_of_the_run(studied):
    found = records(studied, "pruning")
    for record in found:
        after = TASKS.index(record["of"]) + 1 if record["of"] in TASKS else 3
        label = "finetuned" if record["of"] in TASKS else "max_magnitude@0.5"
        protocol, group = record["protocol"], record["group"]
        if record["kept"] == 1:
            assert record["accuracy"] == accuracy(studied, after, label, protocol, group)
        if record["kept"] == 0:
            assert record["accuracy"] == accuracy(studied, 0, "zero_shot", protocol, group)
    assert {r["choice"] for r in found} == {"largest", "random", "smallest"}
    assert {r["group"] for r in found} == {*TASKS, "all"}


def test_contribution_leaves_one_task_out(studied):
    found = records(studied, "contribution")
    assert len(found) == 2 * 3 * 2 * 4  # merges, left out, protocols, groups
    for record in found:
        label = f"{record['rule']}@{record['scale']:g}"
        known = accuracy(studied, 3, label, record["protocol"], record["group"])
        assert record["with_all"] == known
    assert any(record["accuracy"] != record["with_all"] for record in found)


def test_transfer_weights_future_tasks(studied):
    found = records(studied, "transfer")
    counts = {r.group: r.count for r in studied.rows()}
    (record,) = (
        r
        for r in found
        if (r["after_task"], r["model"], r["protocol"]) == (1, "finetuned", "aware")
    )
    hits = [accuracy(studied, 1, "finetuned", "aware", task) * counts[task] for task in TASKS[1:]]
    assert record["count"] == sum(counts[task] for task in TASKS[1:])
    assert record["accuracy"] == pytest.approx(sum(hits) / record["count"])
    others = [r for r in found if r["data"] == "digits_styles"]
    assert {(r["model"], r["scale"]) for r in others} == {
        ("finetuned", None),
        ("max_magnitude", 0.5),
        ("average", 0.5),
    }


def test_signs_and_provenance_match_numpy(studied, taus):
    every = np.stack([flat(tau) for tau in taus])
    for tasks in (2, 3):
        seen = every[:tasks]
        up, down = (seen > 0).any(axis=0), (seen < 0).any(axis=0)
        (record,) = (
            r
            for r in records(studied, "signs")
            if (r["tasks"], r["kept"], r["part"]) == (tasks, 1.0, "all")
        )
        assert record["entries"] == every.shape[1]
        assert record["conflicts"] == np.mean(up & down)
        assert record["changed"] == np.mean(up | down)
        assert record["shared"] == np.mean((seen != 0).sum(axis=0) >= 2)
    assert {r["part"] for r in records(studied, "signs")} > {"all", "attention.qkv.kernel"}

    winner = 2 - np.abs(every[::-1]).argmax(axis=0)  # ties go to the last
    changed = (every != 0).any(axis=0)
    found = records(studied, "provenance")
    for number, task in enumerate(TASKS):
        own = [r for r in found if r["task"] == task]
        assert sum(r["entries"] for r in own) == every.shape[1]
        assert sum(r["supplied"] for r in own) == np.sum((winner == number) & changed)
        squares = np.sum(every[number, (winner == number) & changed] ** 2)
        assert sum(r["squared_norm"] for r in own) == pytest.approx(squares, rel=1e-4)
    assert {r["layer"] for r in found} == {"embedding", "block 1", "block 2", "head"}


def test_norms_and_angles_match_numpy(studied, taus):
    every = np.stack([flat(tau) for tau in taus])
    merged = every[2 - np.abs(every[::-1]).argmax(axis=0), np.arange(every.shape[1])]
    lengths = np.linalg.norm(every, axis=1)
    found = records(studied, "norms")
    np.testing.assert_allclose([r["norm"] for r in found], lengths, rtol=1e-5)
    steps = [lengths[0], *np.linalg.norm(np.diff(every, axis=0), axis=1)]
    np.testing.assert_allclose([r["step"] for r in found], steps, rtol=1e-5)
    assert found[-1]["merged"] == pytest.approx(np.linalg.norm(merged), rel=1e-5)

    angles = {(r["first"], r["second"]): r["cosine"] for r in records(studied, "similarity")}
    assert len(angles) == 25  # the tasks and the two merges
    together = every[0] @ every[1] / lengths[0] / lengths[1]
    assert angles["task 1", "task 2"] == pytest.approx(angles["task 2", "task 1"])
    assert angles["task 1", "task 2"] == pytest.approx(together, abs=1e-5)
    together = merged @ every[2] / np.linalg.norm(merged) / lengths[2]
    assert angles["max_magnitude", "task 3"] == pytest.approx(together, abs=1e-5)


def test_features_drift_and_more_without_a_merge(studied):
    found = {(r["model"], r["group"]): r["cka"] for r in records(studied, "alignment")}
    assert set(found) == {
        (m, g) for m in ("finetuned", "max_magnitude", "average") for g in ("all", *TASKS)
    }
    assert all(0 < cka < 1 for cka in found.values())
    assert found["average", "all"] > found["finetuned", "all"]


def test_existing_results_are_not_recomputed(studied):
    path = studied.path / "analysis" / "signs.jsonl"
    before, said = path.stat().st_mtime_ns, Said()
    study(studied, ["signs"], said)
    assert path.stat().st_mtime_ns == before and "already exists" in said.lines[0]
    whole = records(studied, "signs")
    study(studied, ["signs"], exclude=("*position_embedding*", "*layers.0.*"))
    less = records(studied, "signs")
    at = {"tasks": 2, "kept": 1.0, "part": "attention.qkv.kernel"}
    share, smaller = (
        next(r["changed"] for r in found if at.items() <= r.items()) for found in (whole, less)
    )
    assert smaller == pytest.approx(share / 2, rel=0.1)  # one of two layers
    with pytest.raises(UserError, match=r"--exclude: .nothing. matches no parameter"):
        study(studied, exclude=("nothing",))
    with pytest.raises(UserError, match="nowhere"):
        study(studied, transfer_to=("folder:nowhere",))
    with pytest.raises(UserError, match="is not a study: choose from signs, norms"):
        study(studied, ["everything"])
    study(studied, ["signs"], again=True)
    assert records(studied, "signs") == whole


def test_a_run_that_keeps_no_tasks_has_fewer_studies(studied, tmp_path):
    bare = RunDirectory(tmp_path / "bare")
    bare.path.mkdir()
    for name in ("config.json", "results.jsonl", "checkpoints"):
        (bare.path / name).symlink_to(studied.path / name)
    said = Said()
    study(bare, ["signs", "transfer"], said)
    unrecorded, left_out = said.lines[:2]
    assert "bare was made before runs recorded their model and data" in unrecorded
    assert "signs: left out" in left_out and "--checkpoint.keep-tasks" in left_out
    assert [path.name for path in (bare.path / "analysis").iterdir()] == ["transfer.jsonl"]
    with pytest.raises(UserError, match="does not keep every task's model"):
        study(bare, ["signs"])


def test_studies_need_a_trained_task(studied, monkeypatch):
    monkeypatch.setattr(ModelStore, "learned", 0)
    with pytest.raises(UserError, match="has learned no task yet"):
        study(studied)
    monkeypatch.setattr(ModelStore, "learned", 1)
    with pytest.raises(UserError, match="one task is learned"):
        study(studied, ["contribution"], again=True)


@pytest.mark.slow
def test_every_rule_has_a_measured_overhead(studied, monkeypatch):
    some = ("max_magnitude", "average", "weighted_average", "fisher", "ties", "slerp")
    monkeypatch.setattr(rules, "RULES", {name: rules.RULES[name] for name in some})
    study(studied, ["overhead"])
    found = {r["what"]: r for r in records(studied, "overhead")}
    baselines = {
        "training step", "EWC: step", "EWC: consolidation", "LwF: step", "L2-SP: step",
    }  # fmt: skip
    assert baselines <= set(found)
    named = {what.partition(":")[0] for what in found}
    assert named == {*rules.RULES, "training step", "EWC", "LwF", "L2-SP"}
    assert found["training step"]["steps"] == 1 and found["training step"]["state"] == 0
    assert all(r["seconds"] > 0 for r in found.values())
    theta = found["max_magnitude: merge"]["state"]
    assert found["average: merge"]["state"] == theta + 4  # plus a counter
    assert found["ties: merge"]["state"] == 3 * theta
    assert found["max_magnitude: update"]["bytes"] < theta / 8, "in the state's own place"


def test_contribution_without_the_last_evaluation_is_the_same(studied, tmp_path):
    out = RunDirectory(shutil.copytree(studied.path, tmp_path / "copy"))
    out.keep(row for row in out.rows() if row.after_task < 3)
    study(out, ["contribution"], again=True)
    assert records(out, "contribution") == records(studied, "contribution")
