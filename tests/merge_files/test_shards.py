"""Directories with one checkpoint twice, or with shards in an odd order."""

import json
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge

NAMES = ("a", "b", "c")


def sharded(directory, value: float, where: dict[str, str]):
    """One shard per name; `where` is the index's content."""
    directory.mkdir()
    for name in NAMES:
        save_file({name: np.full(3, value, np.float32)}, directory / f"{name}.safetensors")
    content = json.dumps({"weight_map": where})
    (directory / "model.safetensors.index.json").write_text(content)
    return directory


def test_a_single_file_next_to_the_shards_is_noted_and_refused_if_it_differs(tmp_path):
    theta_1 = sharded(tmp_path / "1", 2, {name: f"{name}.safetensors" for name in NAMES})
    theta_0 = tmp_path / "model.safetensors"
    save_file({name: np.ones(3, np.float32) for name in NAMES}, theta_0)

    def planned() -> Plan:
        return make_plan(Job(str(tmp_path), (str(theta_1),)))

    assert planned().notes == planned().problems == []
    save_file({name: np.full(3, 2, np.float32) for name in NAMES}, theta_1 / "model.safetensors")
    assert not planned().problems
    (note,) = planned().notes
    assert note.startswith(f"{theta_1}: model.safetensors is read, as transformers does")
    assert "not the shards of model.safetensors.index.json" in note
    shutil.copyfile(theta_0, theta_1 / "model.safetensors")
    (problem,) = planned().problems
    assert problem.startswith(f"{theta_1} holds two models: model.safetensors and the shards of")


def test_an_index_that_names_other_shards_changes_nothing(tmp_path):
    """As in transformers, which reads each shard whole."""
    straight = {name: f"{name}.safetensors" for name in NAMES}
    turned = dict(zip(NAMES, ["c.safetensors", "a.safetensors", "b.safetensors"], strict=True))
    theta_0 = sharded(tmp_path / "0", 1, straight)
    theta_1 = sharded(tmp_path / "1", 5, turned)
    flags = ("--rule", "average", "--scale", 1, "--output", tmp_path / "out")
    assert merge("--pretrained", theta_0, "--finetuned", theta_1, *flags) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: float(array[0]) for name, array in found.items()} == dict.fromkeys(NAMES, 5)
