"""`--state`: continual merging without the earlier models."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.io.safetensors.reader import Reader, open_files
from magmax_jax.merge_files import execute
from magmax_jax.merge_files.execute import merge_tensors
from magmax_jax.merge_files.state import read_state
from tests.merge_files.conftest import COUNTER, expected, merge, sources, tensors, write


def assert_holds(directory, content) -> None:
    found = load_file(directory / "model.safetensors")
    assert found.keys() == content.keys()
    for name, value in content.items():
        np.testing.assert_array_equal(found[name], np.asarray(value), err_msg=name)
        assert found[name].dtype == np.asarray(value).dtype


def test_inspect_credits_no_task_for_unchanged_entries(models, tmp_path, capsys):
    half = tensors(1)
    half["d"] = tensors(0)["d"]
    write(models[1], half)
    state = tmp_path / "state"
    assert merge(*sources(models[:2]), "--state", state, "--output", tmp_path / "first") == 0
    capsys.readouterr()
    assert main(["inspect", str(state)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    sizes = {name: tensor.size for name, tensor in tensors(0).items() if name != COUNTER}
    untouched = sizes["d"] / sum(sizes.values())
    assert f"{untouched:.1%} were never changed" in shown and f"{1 - untouched:.1%}" in shown


def conflicts(seeds) -> float:
    """Share of entries that one model increases and another decreases."""

    def tau(seed) -> np.ndarray:
        base, theta = tensors(0), tensors(seed)
        changes = [np.float32(theta[n]) - np.float32(base[n]) for n in base if n != COUNTER]
        return np.concatenate([np.ravel(change) for change in changes])

    taus = [tau(seed) for seed in seeds]
    return float(np.mean((np.max(taus, axis=0) > 0) & (np.min(taus, axis=0) < 0)))


@pytest.mark.parametrize("rule", ["max_magnitude", "average", "random_mix"])
def test_one_model_at_a_time_equals_all_at_once(models, tmp_path, rule):
    state, once = tmp_path / "state", tmp_path / "once"
    assert merge(*sources(models), "--rule", rule, "--output", once) == 0
    first = ["--pretrained", models[0], "--rule", rule]
    for i, model in enumerate(models[1:]):
        flags = ["--finetuned", model, "--state", state, "--output", tmp_path / f"month-{i}"]
        assert merge(*flags, *first) == 0
        first = []
    for name, tensor in load_file(once / "model.safetensors").items():
        found = load_file(tmp_path / "month-2" / "model.safetensors")[name]
        np.testing.assert_allclose(found.astype(float), tensor.astype(float), rtol=1e-6, atol=1e-7)


def test_a_state_alone_gives_the_merge_at_any_scale(models, tmp_path):
    state, out = tmp_path / "state", tmp_path / "out"
    assert merge(*sources(models), "--state", state, "--output", tmp_path / "first") == 0
    assert merge("--state", state, "--scale", 1, "--output", out) == 0
    content = expected([1, 2, 3], mm.rules.max_magnitude(), 1.0)
    content[COUNTER] = tensors(0)[COUNTER]
    assert_holds(out, content)


def test_inspect_reports_tasks_and_their_shares(models, tmp_path, capsys):
    state = tmp_path / "state"
    assert merge(*sources(models), "--state", state, "--output", tmp_path / "first") == 0
    capsys.readouterr()
    assert main(["inspect", str(state)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "state of 3 tasks" in shown
    taus = np.abs([tensors(i)["d"] - tensors(0)["d"] for i in (1, 2, 3)])
    assert 30 < 100 * np.mean(taus.argmax(axis=0) == 0) < 37
    assert shown.count("33.") + shown.count("32.") + shown.count("34.") >= 3
    assert f"sign conflicts: {conflicts([1, 2, 3]):.1%} of entries" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rule", "average"], "--rule is average, but"),
        (["--exclude", "d"], "another model or choice of tensors"),
    ],
)
def test_contradictions_to_the_state_are_refused(models, tmp_path, capsys, flags, words):
    state = tmp_path / "state"
    assert merge(*sources(models[:2]), "--state", state, "--output", tmp_path / "first") == 0
    before = state.read_bytes()
    more = ["--finetuned", models[2], "--state", state, "--output", tmp_path / "out"]
    assert merge(*more, *flags) == 2
    assert words in capsys.readouterr().err
    assert state.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.fixture
def begun(models, tmp_path, monkeypatch):
    """A state of theta_1, and a merge that records its start in `merged`."""
    state, merged = tmp_path / "state", []
    assert merge(*sources(models[:2]), "--state", state, "--output", tmp_path / "first") == 0

    def noted(*arguments):
        merged.append(arguments)
        return merge_tensors(*arguments)

    monkeypatch.setattr(execute, "merge_tensors", noted)
    return state, merged


def test_a_model_is_never_merged_twice(models, tmp_path, capsys, begun):
    state, merged = begun
    again = models[1].rename(tmp_path / "renamed")  # identified by content, not by name
    before, there = state.read_bytes(), sorted(tmp_path.iterdir())
    flags = ["--finetuned", again, models[2], again, "--state", state]
    assert merge(*flags, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count(f"{again} is already in this state, as task 1: leave it out") == 2
    assert str(models[2]) not in error
    assert not merged and state.read_bytes() == before and sorted(tmp_path.iterdir()) == there


def test_a_dry_run_counts_the_models_in_the_state_and_finds_repeats(
    models, tmp_path, capsys, begun
):
    state, merged = begun
    again = models[1].rename(tmp_path / "renamed")
    flags = ["--state", state, "--dry-run", "--finetuned", models[2]]
    capsys.readouterr()
    assert merge(*flags) == 0
    assert "max_magnitude of 2 models (1 in the state) at scale 0.5" in capsys.readouterr().out
    assert merge(*flags, again) == 2
    shown = capsys.readouterr()
    found = f"{again} is already in this state, as task 1: leave it out"
    assert f"problem: {found}" in shown.out and found in shown.err
    assert merge(*flags, again, "--no-checksums") == 0
    assert not merged


@pytest.mark.parametrize("given", [[], ["--pretrained"], ["--finetuned"]])
def test_the_error_for_a_missing_state_says_how_to_start_one(models, tmp_path, capsys, given):
    sources = [word for flag in given for word in (flag, models[0])]
    assert merge(*sources, "--state", tmp_path / "mine", "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'mine'}: there is no such state file; to start one there, give "
        "theta_0 as --pretrained and the first models as --finetuned\n"
    )
    assert not (tmp_path / "mine").exists()


def test_one_model_is_written_in_the_singular(models, tmp_path, capsys):
    state, out = tmp_path / "state", tmp_path / "out"
    assert merge(*sources(models[:2]), "--dry-run") == 0
    assert "max_magnitude of 1 model at" in capsys.readouterr().out
    assert merge(*sources(models[:2]), "--state", state, "--output", out) == 0
    assert "max_magnitude of 1 model at" in capsys.readouterr().out
    assert "the task vectors of 1 model, in this order" in (out / "README.md").read_text()
    assert main(["inspect", str(state)]) == 0
    assert "state of 1 task," in " ".join(capsys.readouterr().out.split())
    assert main(["inspect", str(out)]) == 0
    assert "7 tensors in 1 file," in " ".join(capsys.readouterr().out.split())


def test_another_theta_0_in_the_same_place_is_noticed(models, tmp_path, capsys, begun):
    state, merged = begun
    before, there = state.read_bytes(), sorted(tmp_path.iterdir())
    write(models[0], tensors(9))
    more = ["--finetuned", models[2], "--state", state, "--output", tmp_path / "out"]
    assert merge(*more) == 2
    assert "is not the theta_0 with which" in capsys.readouterr().err
    assert not merged and state.read_bytes() == before and sorted(tmp_path.iterdir()) == there
    # Without checksums nothing is compared.
    assert merge(*more, "--no-checksums") == 0
    assert len(merged) == 1


def test_a_state_without_checksums_is_continued(models, tmp_path, begun):
    _, merged = begun
    state, out = ["--state", tmp_path / "unknown"], tmp_path / "out"
    assert merge(*sources(models[:2]), *state, "--no-checksums", "--output", out) == 0
    again = ["--finetuned", models[1], "--output", tmp_path / "again"]
    assert merge(*again, *state) == 0
    assert len(merged) == 2


def test_more_tasks_than_a_byte_can_count(models, tmp_path, capsys):
    path = tmp_path / "state"
    assert merge(*sources(models), "--state", path, "--output", tmp_path / "first") == 0
    history, files = read_state(path)
    many = dataclasses.replace(history, tasks=history.tasks * 100)
    with Reader() as reader:
        content = {name: reader.whole(tensor) for name, tensor in files.tensors.items()}
    save_file(content, path, metadata=many.to_metadata())
    assert main(["inspect", str(path)]) == 0
    assert "state of 300 tasks" in capsys.readouterr().out


def test_the_metadata_of_a_state_keep_their_keys(models, tmp_path):
    """State files of earlier versions must stay readable, and ours must stay readable to them."""
    state = tmp_path / "state"
    assert merge(*sources(models[:2]), "--state", state, "--output", tmp_path / "first") == 0
    metadata = json.loads(open_files(tmp_path, [state]).metadata["magmax_state"])
    (task,) = metadata.pop("tasks")
    assert list(metadata) == ["rule", "options", "seed", "pretrained", "sha256"]
    assert list(task) == ["source", "sha256", "norm"]
    assert metadata["options"] == {}, "what a state adds to the options is not the user's"


def test_a_state_may_omit_provenance(models, tmp_path, capsys):
    state, more = tmp_path / "state", ["--finetuned", models[2]]
    flags = ["--state", state, "--options", "provenance=false"]
    assert merge(*sources(models[:2]), *flags, "--output", tmp_path / "first") == 0
    assert merge(*more, "--state", state, "--output", tmp_path / "second") == 0
    capsys.readouterr()
    assert main(["inspect", str(state)]) == 0
    shown = capsys.readouterr().out
    assert "state of 2 tasks" in shown and "entries supplied" not in shown


def test_rules_that_need_all_models_have_no_state(models, tmp_path, capsys):
    for rule in ("ties", "opcm"):
        flags = ["--rule", rule, "--state", tmp_path / "s", "--output", tmp_path / "o"]
        assert merge(*sources(models), *flags) == 2
        assert rule in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
