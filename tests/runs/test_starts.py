"""Tasks that start from the last model, theta_0, or a merge of the earlier tasks."""

import dataclasses
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

import magmax_jax as mm
from benchmarks.virtual_devices import virtual_devices
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import Interrupted
from magmax_jax.runs.build import build_run
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.state import shapes
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from magmax_jax.training import fine_tune
from tests.helpers.compilations import compilations
from tests.runs.test_preemption import StopInTaskTwo


@pytest.fixture(scope="module")
def config(tiny_clip) -> ExperimentConfig:
    """Three tasks of eight steps."""
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=3, allow_unequal=True, limit_per_class=8
        ),
        train=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        eval_batch_size=32,
        evaluate="last",
        seed=1919,
    )


@pytest.fixture(scope="module")
def parts(config):
    """Parts of plain sequential runs: data, theta_0 and the compiled step."""
    return build_run(config, build_scenario(config.scenario, config.seed), one_device())


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run that starts from the merge that it evaluates, and what was compiled.

    Its rule has a unique seed, so no other test has compiled it before.
    """
    dare = dataclasses.replace(started_at(config, start="dare@0.7"), merges=("dare",))
    out = RunDirectory(tmp_path_factory.mktemp("starts") / "dare")
    with compilations() as compiled:
        rows = run(dare, out)
    return dare, out, rows, compiled


def started_at(config, **method) -> ExperimentConfig:
    return dataclasses.replace(config, method=MethodConfig(**method))


def stored(config, out, parts) -> ModelStore:
    merges = build_run(config, parts.scenario, one_device()).merges
    return ModelStore(out.path, parts.theta_0, merges)


def last_checkpoint(config, out, parts) -> dict:
    """The last checkpoint's trees, by name."""
    built = build_run(config, parts.scenario, one_device())
    with Checkpoints(out.checkpoints) as checkpoints:
        return checkpoints.restore(lambda note: shapes(built, note["learned"], False)).trees


def assert_equal(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_each_task_starts_from_the_merge_of_earlier_tasks(finished, parts):
    dare, out, _, _ = finished
    kept, theta_0 = stored(dare, out, parts), parts.theta_0
    thetas = [kept.task(number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        start = theta_0
        if number > 1:
            rule = mm.rules.dare(seed=dare.seed)
            start = mm.merge(theta_0, thetas[: number - 1], rule, scale=0.7)
        batches = parts.train_batches(number, parts.epochs(number))
        theta = fine_tune(parts.trainer, start, parts.objective(number), batches)
        assert_equal(theta, thetas[number - 1])


def test_an_interrupted_run_ends_with_the_same_bits(finished, parts, tmp_path):
    dare, out, rows, _ = finished
    stopped = RunDirectory(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        run(dare, stopped, StopInTaskTwo())
    assert run(dare, stopped) == rows
    assert_equal(last_checkpoint(dare, stopped, parts), last_checkpoint(dare, out, parts))


def test_the_step_the_fold_and_the_merge_compile_once(finished):
    """One program makes both the start and the evaluated merge."""
    *_, compiled = finished
    if not any(compiled):
        pytest.skip("this version of JAX does not name what it compiles")
    for program in ("train_step", "_folded", "_merged"):
        assert sum(program in name for name in compiled) == 1, program


class Copies(NullProgress):
    """After the first step of every task, counts the buffers that equal one of theta_0's."""

    def __init__(self, leaf: jax.Array):
        self.leaf, self.found = np.array(leaf), []

    @contextmanager
    def training(self, name, steps, images, first=0) -> Iterator:
        def after(step, metrics) -> None:
            if step == 0:
                gc.collect()  # arrays of earlier runs are in reference cycles
                alike = [x for x in jax.live_arrays() if x.shape == self.leaf.shape]
                equal = [x for x in alike if np.array_equal(x, self.leaf)]
                self.found.append(len({x.unsafe_buffer_pointer() for x in equal}))

        yield after


def test_a_merge_at_scale_zero_is_independent_fine_tuning(config, parts, tmp_path):
    """Its rule is not one of the merges, so its state is kept but not evaluated. Once a task
    trains, the merge that it started from is freed."""
    copies = Copies(max(jax.tree.leaves(parts.theta_0), key=lambda leaf: leaf.size))
    rows, models = [], []
    for start in ("pretrained", "task_arithmetic@0"):
        out, each = RunDirectory(tmp_path / start), started_at(config, start=start)
        copies.found.clear()
        rows.append(run(each, out, copies))
        kept = stored(each, out, parts)
        models.append([kept.task(number) for number in (1, 2, 3)])
    assert rows[0] == rows[1]
    assert {row.label for row in rows[1]} == {"zero_shot", "finetuned", "max_magnitude@0.5"}
    assert json.loads(out.about.read_text())["models"] == 2
    assert_equal(*models)
    total = mm.merge(parts.theta_0, models[1], "task_arithmetic", scale=0.4)
    assert_equal(kept.model(ModelRef("task_arithmetic", 0.4)), total)
    assert len(copies.found) == 3 and len(set(copies.found)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ewc", "lwf"])
def test_penalties_pull_a_task_to_the_merge_that_it_starts_from(config, parts, name, tmp_path):
    """The rule is a collecting one, with a growing state."""
    held = started_at(config, start="ties@0.5", regularizer=name)
    out = RunDirectory(tmp_path / name)
    run(held, out)
    kept = stored(held, out, parts)
    thetas = [kept.task(number) for number in (1, 2, 3)]
    anchor = last_checkpoint(held, out, parts)["memory"].theta
    assert_equal(anchor, mm.merge(parts.theta_0, thetas, "ties", scale=0.5))
    steps = [json.loads(line) for line in out.metrics.read_text().splitlines()]
    penalties = {(step["task"], step["step"]): step["penalty"] for step in steps}
    assert all(value > 0 for (task, step), value in penalties.items() if task > 1 and step > 1)
    if name == "ewc":  # no distance yet; LwF's is a cross-entropy, and never zero
        assert penalties[2, 1] == penalties[3, 1] == 0


@pytest.mark.slow
def test_sharded_over_several_devices_it_starts_from_the_same_merge(tiny_clip, tmp_path):
    layouts = ("1x1x1", "2x4x1")
    command = [sys.executable, "-m", "tests.helpers.layouts", str(tiny_clip), str(tmp_path)]
    shown = subprocess.run(
        [*command, *layouts, "--start", "max_magnitude@0.5"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | virtual_devices(8),
    )
    assert shown.returncode == 0, shown.stderr
    one, several = (json.loads(shown.stdout)[layout] for layout in layouts)
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=1e-5)
    for found in (one, several):
        assert found["compiled"] == dict.fromkeys(found["compiled"], 1)
