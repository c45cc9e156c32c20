"""Many small tensors merged together: the same bits as one by one, in few calls."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import groups
from magmax_jax.merge_files.execute import execute
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge, write

TOGETHER = ["random_mix", "dare", "breadcrumbs", "magnitude_prune", "emr", "iso_c", "opcm", "della"]


def tensors(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = [(5, 4), (7,), (), (2, 3, 4), (0, 3)] * 5
    made = {
        f"layer.{i}": random.normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes)
    }
    made["layer.30"] = random.normal(size=7).astype(ml_dtypes.bfloat16)
    return made


@pytest.fixture
def models(tmp_path):
    return [write(tmp_path / f"m{i}", tensors(i)) for i in range(4)]


@pytest.mark.parametrize("rule", ["dare", "della", "breadcrumbs", "iso_c", "opcm"])
def test_each_tensor_has_the_same_bits_as_when_merged_alone(models, tmp_path, rule, monkeypatch):
    base, *rest = models
    flags = ["--pretrained", base, "--finetuned", *rest, "--rule", rule, "--seed", 5]
    for name, entries in (("together", groups.ENTRIES), ("some", 40), ("alone", 1)):
        monkeypatch.setattr(groups, "ENTRIES", entries)
        assert merge(*flags, "--output", tmp_path / name) == 0
    found, some, alone = (
        load_file(tmp_path / name / "model.safetensors") for name in ("together", "some", "alone")
    )
    for name, value in alone.items():
        assert found[name].tobytes() == value.tobytes() == some[name].tobytes(), name


@pytest.mark.parametrize("rule", ["dare", "emr"])
def test_a_resumed_state_equals_merging_all_at_once(models, tmp_path, rule):
    base, *rest = models
    flags = ["--rule", rule, "--seed", 5]
    whole, state = tmp_path / "whole", tmp_path / "state.safetensors"
    assert merge("--pretrained", base, "--finetuned", *rest, *flags, "--output", whole) == 0
    first = ["--pretrained", base, "--finetuned", *rest[:2], *flags]
    assert merge(*first, "--state", state, "--output", tmp_path / "first") == 0
    assert merge("--finetuned", rest[2], "--state", state, "--output", tmp_path / "second") == 0
    wanted = load_file(whole / "model.safetensors")
    for name, value in load_file(tmp_path / "second" / "model.safetensors").items():
        assert value.tobytes() == wanted[name].tobytes(), name


@pytest.mark.parametrize("rule", TOGETHER)
def test_a_few_calls_merge_them_all(models, rule):
    base, *rest = map(str, models)
    plan = make_plan(Job(pretrained=base, finetuned=tuple(rest), rule=rule))
    found = list(groups.groups(plan))
    assert sorted(name for names in found for name in names) == sorted(plan.merged)
    assert len(found) == 4 + 5 + 1  # the shapes, every empty tensor, and the bfloat16 one
    files = open_tensors(base)
    for names in found:
        assert len({(files.tensors[n].shape, files.tensors[n].dtype) for n in names}) == 1


def test_tensors_are_grouped_if_the_rule_treats_them_alike(models):
    base, *rest = map(str, models)
    options = {"averaged": ("layer.1",)}
    job = Job(pretrained=base, finetuned=tuple(rest), rule="opcm", options=options)
    found = list(groups.groups(make_plan(job)))
    matrices = ["layer.0", "layer.20", "layer.5"]  # without layer.10 and layer.15
    assert matrices in found and ["layer.10", "layer.15"] in found
    execute(make_plan(job), models[0].parent / "out")


def test_other_rules_that_read_names_get_tensors_one_by_one(models):
    base, *rest = map(str, models)
    plan = make_plan(Job(pretrained=base, finetuned=tuple(rest), rule="emr"))
    reading = dataclasses.replace(plan, build=lambda: plan.rule._replace(reads_names=True))
    assert all(len(names) == 1 for names in groups.groups(reading))
