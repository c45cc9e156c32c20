"""The first line of a run, on pretend machines and devices."""

import re

import jax
import pytest

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.merging.task_vectors import tree_bytes
from magmax_jax.runs.build import build_run
from magmax_jax.runs.computes_on import computes_on
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import build_layout
from tests.devices.machines import machine, nvidia

MEMORY = {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n"}


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip), dtype="bfloat16"),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=2, allow_unequal=True, limit_per_class=2
        ),
        train=TrainConfig(epochs=1, batch_size=8),
        merges=("max_magnitude", "average"),
        eval_batch_size=8,
    )


@pytest.fixture(scope="module")
def parts(config):
    scenario = build_scenario(config.scenario, config.seed)
    return build_run(config, scenario, build_layout(config))


def test_devices_dtype_memory_and_what_fits_are_named(parts, tmp_path):
    [line] = computes_on(parts, machine(tmp_path, MEMORY))
    devices = jax.device_count()
    assert line.startswith(f"computes on {devices} x cpu in bfloat16, 8.2 of 16.4 GB free; ")
    assert line.endswith(" models can be evaluated at once")


def test_the_size_counts_parameters_moments_and_merges(parts, tmp_path):
    [line] = computes_on(parts, machine(tmp_path, MEMORY))
    (shown,) = re.findall(r"take ([\d.]+) GB", line)
    # theta_0, the current parameters, Adam's two moments, and two merges with a running state each.
    at_least = 6 * tree_bytes(parts.theta_0) * jax.device_count() / 1e9
    assert at_least - 0.005 <= float(shown) <= 3 * at_least + 0.005


def test_state_that_does_not_fit_gets_a_note(parts, tmp_path):
    little = {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 1 kB\n"}
    [_, note] = computes_on(parts, machine(tmp_path, little))
    assert note.startswith("note: parameters, optimiser and merges need ") and "fsdp" in note


def test_a_gpu_that_jax_does_not_use_gets_a_note_with_the_command(parts, tmp_path):
    [_, note] = computes_on(parts, nvidia(tmp_path, 2, "580.1"))
    assert note == (
        "note: JAX has no backend for 2 NVIDIA GPUs (driver 580.1): "
        "pip install 'magmax_jax[cuda13]'"
    )


@pytest.mark.slow
def test_it_is_the_first_line_of_a_run_and_not_repeated_when_finished(config, tmp_path):
    lines: list[str] = []
    progress = NullProgress()
    progress.say = lambda text: lines.append(str(text))
    run(config, RunDirectory(tmp_path / "run"), progress)
    assert lines[0].startswith("computes on ")
    lines.clear()
    run(config, RunDirectory(tmp_path / "run"), progress)
    assert not any(line.startswith("computes on ") for line in lines)
