"""Small whole runs: their rows, bitwise repeatability, and refused configurations."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from magmax_jax.config import (
    ExperimentConfig,
    MergingConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.data import load_source
from magmax_jax.errors import DivergedError, UserError
from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.evaluation.counts_file import read_counts
from magmax_jax.merging import rules
from magmax_jax.models import CLIP, num_entries
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import parse_merges
from magmax_jax.runs.train import run
from magmax_jax.training.regularizers import Anchor, Teacher
from tests.helpers.compilations import compilations


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=5, limit_per_class=9),
        train=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=("max_magnitude", "max_magnitude@1", "average", "random_mix"),
        eval_batch_size=32,
    )


def metrics_of(out):
    return [json.loads(line) for line in out.metrics.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A finished run: its directory, its rows, and what was compiled."""
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "finished")
    with compilations() as compiled:
        rows = run(config, out)
    return out, rows, compiled


def test_every_model_is_measured_after_every_task(finished):
    _, rows, _ = finished
    measured = {(row.after_task, row.label) for row in rows}
    models = ["finetuned", "max_magnitude@0.5", "max_magnitude@1", "average@1", "random_mix@1"]
    assert measured == {(0, "zero_shot")} | {(t, m) for t in range(1, 6) for m in models}
    groups = {row.group for row in rows}
    assert groups == {"all", *(f"task {i}" for i in range(1, 6))}
    assert all(0 <= row.accuracy <= 1 for row in rows)
    assert all(row.count == 90 for row in rows if row.group == "all")


def test_fine_tuning_learns_each_task_when_it_comes(finished):
    _, rows, _ = finished

    def mean_aware(model, after_task):
        return np.mean(
            [
                row.accuracy
                for row in rows
                for i in range(1, 6)
                if (row.model, row.protocol, row.group) == (model, "aware", f"task {i}")
                and row.after_task == after_task(i)
            ]
        )

    assert mean_aware("finetuned", lambda i: i) > mean_aware("zero_shot", lambda i: 0) + 0.1


def test_after_one_task_a_merge_at_scale_one_is_the_fine_tuned_model(finished):
    """Parameters are equal up to rounding, so accuracies differ by at most one sample."""
    _, rows, _ = finished
    first = {}
    for row in rows:
        if row.after_task == 1:
            first.setdefault(row.label, {})[row.protocol, row.group] = row.accuracy
    for label in ("max_magnitude@1", "average@1", "random_mix@1"):
        for key, accuracy in first["finetuned"].items():
            assert abs(first[label][key] - accuracy) <= 1 / 18


def test_the_directory_holds_what_it_promises(finished, config):
    out, rows, _ = finished
    assert ExperimentConfig.from_file(out.path / "config.json") == config
    lines = (out.path / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(rows)
    assert set(json.loads(lines[0])) == {
        "after_task",
        "model",
        "scale",
        "protocol",
        "group",
        "accuracy",
        "count",
        "top5",
        "split",
        "chosen",
    }
    leftovers = [p.name for p in out.path.iterdir()]
    assert sorted(leftovers) == [
        "about.json", "checkpoints", "config.json", "counts", "head.safetensors",
        "metrics.jsonl", "results.jsonl",
    ]  # fmt: skip


def test_every_accuracy_is_a_marginal_of_its_counts(finished):
    out, rows, _ = finished
    every = {(row.after_task, row.label) for row in rows}
    assert len(list(out.counts.iterdir())) == len(every)
    for after, label in every:
        counts = read_counts(out.counts_of(after, label))
        total, agnostic = counts["total"], counts["agnostic"]
        confusion = as_matrix(counts["confusions"], total.shape[-1])
        assert (confusion.sum(axis=1) == total.sum(axis=(0, 1))).all()
        assert (np.diag(confusion) == agnostic.sum(axis=(0, 1))).all()
        for row in rows:
            if (row.after_task, row.label) == (after, label):
                right = counts[row.protocol]
                tasks = [g for g in dict.fromkeys(r.group for r in rows) if g != "all"]
                at = slice(None) if row.group == "all" else tasks.index(row.group)
                assert row.count == total[at].sum()
                assert row.accuracy == right[at].sum() / row.count
                assert row.top5 == counts[f"{row.protocol}_top5"][at].sum() / row.count


def test_a_run_describes_itself(finished):
    out, rows, _ = finished
    about = json.loads(out.about.read_text())
    assert [len(task["classes"]) for task in about["tasks"]] == [2] * 5
    assert sum(task["test"] for task in about["tasks"]) == rows[0].count
    steps = [json.loads(line)["total_step"] for line in out.metrics.read_text().splitlines()]
    assert sum(learned["steps"] for learned in about["learned"]) == steps[-1]
    assert len(rows) % (1 + about["models"] * len(about["learned"])) == 0
    (start,) = about["starts"]
    assert start["versions"]["jax"] == jax.__version__ and "cpu" in start["devices"]


def test_steps_compile_once_whatever_the_number_of_tasks(finished):
    """Counts come from JAX's own monitoring, so no second compilation goes unnoticed."""
    _, _, compiled = finished
    if not any(compiled):
        pytest.skip("this version of JAX does not name what it compiles")
    assert sum("train_step" in name for name in compiled) == 1
    assert sum("eval_step" in name for name in compiled) == 1
    assert not any("corrected_moments" in name for name in compiled)  # no merge needs them


def test_the_checkpoint_holds_the_last_model_and_the_online_states(finished, config, tiny_clip):
    out, _, _ = finished
    theta_0 = nnx.state(CLIP.from_pretrained(tiny_clip).vision)
    states = {name: m.rule.init(theta_0) for name, m in parse_merges(config).items()}
    with Checkpoints(out.checkpoints) as checkpoints:
        _, note, state = checkpoints.restore(lambda note: {"finetuned": theta_0, "merges": states})
    assert (note["learned"], note["step"]) == (5, 0)
    assert int(state["merges"]["average"].count) == 5
    tau = jax.tree.map(lambda a, b: np.abs(a - b), state["finetuned"], theta_0)
    largest = jax.tree.map(np.abs, state["merges"]["max_magnitude"])
    assert jax.tree.all(jax.tree.map(lambda t, m: (t <= m).all(), tau, largest))


def test_the_same_configuration_gives_the_same_rows(finished, config, tmp_path):
    _, rows, _ = finished
    assert run(config, RunDirectory(tmp_path / "again")) == rows


def test_a_finished_run_is_shown_and_not_repeated(finished, config):
    out, rows, _ = finished
    before = (out.path / "results.jsonl").stat().st_mtime_ns
    assert run(config, out) == rows
    assert (out.path / "results.jsonl").stat().st_mtime_ns == before


def test_an_interrupted_run_does_not_count_as_finished(finished, config, tmp_path):
    """Killed while writing: the truncated file must not count, and the rerun must be complete."""
    done, rows, _ = finished
    out = RunDirectory(tmp_path / "torn")
    out.start(config)
    (out.path / "results.jsonl").write_text((done.path / "results.jsonl").read_text()[:-30])
    assert len(out.rows()) == len(rows) - 1
    assert run(config, out) == rows


def test_a_run_whose_last_checkpoint_is_lost_does_not_count_as_finished(
    finished, config, tmp_path, monkeypatch
):
    """It is written in the background, and its error comes late."""
    done, rows, _ = finished
    last, lost = _last_checkpoint(done), []
    save, wait = Checkpoints.save, Checkpoints.wait

    def losing(self, number, trees, note):
        if number == last:
            lost.append(number)
        else:
            save(self, number, trees, note)

    def waiting(self):
        wait(self)
        if lost:
            lost.clear()
            raise UserError("the last checkpoint cannot be written")

    out = RunDirectory(tmp_path / "lost")
    with monkeypatch.context() as patched, pytest.raises(UserError, match="the last checkpoint"):
        patched.setattr(Checkpoints, "save", losing)
        patched.setattr(Checkpoints, "wait", waiting)
        run(config, out)
    assert run(config, out) == rows
    assert _last_checkpoint(out) == last


def _last_checkpoint(out: RunDirectory) -> int:
    with Checkpoints(out.checkpoints) as checkpoints:
        return max(checkpoints.numbers)


def test_independent_fine_tuning_starts_every_task_from_theta_0(finished, config, tmp_path):
    _, rows, _ = finished
    independent = dataclasses.replace(config, method=MethodConfig(sequential=False), merges=())
    found = run(independent, RunDirectory(tmp_path / "independent"))

    def finetuned(rows, after):
        return [r for r in rows if r.model == "finetuned" and r.after_task == after]

    assert finetuned(found, 1) == finetuned(rows, 1)  # the first task is the same either way
    assert finetuned(found, 5) != finetuned(rows, 5)


@pytest.mark.parametrize("name", ["ewc", "lwf"])
def test_a_regularized_run_differs_from_the_second_task_and_compiles_once(
    finished, config, tiny_clip, tmp_path, name
):
    _, plain, _ = finished
    regularized = dataclasses.replace(config, method=MethodConfig(regularizer=name), merges=())
    out = RunDirectory(tmp_path / name)
    with compilations() as compiled:
        rows = run(regularized, out)

    def finetuned(rows, after):
        return [r for r in rows if r.model == "finetuned" and r.after_task in after]

    assert len(finetuned(rows, range(1, 6))) == len(finetuned(plain, range(1, 6)))
    for ours, theirs in zip(finetuned(rows, [1]), finetuned(plain, [1]), strict=True):
        assert abs(ours.accuracy - theirs.accuracy) <= 1 / 18  # at most one sample, due to rounding
    assert finetuned(rows, range(2, 6)) != finetuned(plain, range(2, 6))
    if any(compiled):  # some versions of JAX do not name what they compile
        for step, times in (("train_step", 1), ("eval_step", 1), ("fisher_step", name == "ewc")):
            assert sum(step in function for function in compiled) == times, step

    theta_0 = nnx.state(CLIP.from_pretrained(tiny_clip).vision)
    anchors = {"ewc": Anchor(theta_0, theta_0), "lwf": Teacher(theta_0, np.zeros(10, bool))}
    with Checkpoints(out.checkpoints) as checkpoints:
        like = {"finetuned": theta_0, "memory": anchors[name]}
        _, _, state = checkpoints.restore(lambda note: like)
    jax.tree.map(np.testing.assert_array_equal, state["memory"].theta, state["finetuned"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(state["memory"][1]))


def test_joint_training_learns_all_tasks_as_one_and_merges_nothing(config, tmp_path):
    joint = dataclasses.replace(config, method=MethodConfig(joint=True))
    out = RunDirectory(tmp_path / "joint")
    rows = run(joint, out)
    assert {(row.after_task, row.model) for row in rows} == {(0, "zero_shot"), (1, "finetuned")}
    assert {row.group for row in rows} == {"all", *(f"task {i}" for i in range(1, 6))}
    assert len(metrics_of(out)) == 2 * 12  # 90 images in batches of 8, two epochs
    assert run(joint, out) == rows


def test_sequential_data_sets_each_have_a_head(config, tmp_path):
    """The digits, and again as a folder of pictures with another size and other class names."""
    digits = load_source("digits", "train", None)
    for split, start in (("train", 0), ("test", 500)):
        for i in range(start, start + 60):
            name = "zero one two three four five six seven eight nine".split()[digits.labels[i]]
            path = tmp_path / "words" / split / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits.images[i]).resize((20, 30)).save(path)
    datasets = ("digits@1", f"folder:{tmp_path / 'words'}@2")
    scenario = ScenarioConfig(kind="datasets", datasets=datasets, limit_per_class=4)
    train = dataclasses.replace(config.train, epochs=None)
    sequence = dataclasses.replace(config, scenario=scenario, train=train)
    out = RunDirectory(tmp_path / "sequence")
    rows = run(sequence, out)
    assert {row.group for row in rows} == {"all", "digits", "words"}
    after = {row.after_task for row in rows}
    assert after == {0, 1, 2}
    assert [m["task"] for m in metrics_of(out)] == [1] * 5 + [2] * 10
    by = {(r.after_task, r.model, r.scale, r.protocol, r.group): r for r in rows}
    for (*which, protocol, group), row in by.items():
        if protocol == "agnostic":  # 20 classes are harder to distinguish than 10
            assert row.accuracy <= by[*which, "aware", group].accuracy
    joint = dataclasses.replace(sequence, method=MethodConfig(joint=True))
    rows = run(joint, RunDirectory(tmp_path / "joint"))
    assert {row.group for row in rows} == {"all", "digits", "words"}


def test_shares_of_the_same_classes_are_learned_one_after_another(config, tmp_path):
    scenario = dataclasses.replace(config.scenario, kind="data", num_tasks=3)
    rows = run(dataclasses.replace(config, scenario=scenario), RunDirectory(tmp_path / "shares"))
    aware, agnostic = (
        [row.accuracy for row in rows if row.protocol == p] for p in ("aware", "agnostic")
    )
    assert aware == agnostic  # each share covers all classes
    assert max(row.after_task for row in rows) == 3


def test_published_merges_differ_as_documented(config, tiny_clip):
    names = ("ties", "average")
    plain = parse_merges(dataclasses.replace(config, merges=names))
    published = dataclasses.replace(config, merges=names, merging=MergingConfig("clip", "two"))
    clip = CLIP.from_pretrained(tiny_clip)
    entries = num_entries(clip)
    theta_0 = nnx.state(clip.vision, nnx.Param)
    assert entries > sum(leaf.size for leaf in jax.tree.leaves(theta_0))
    merges = parse_merges(published, entries)
    assert merges["ties"].rule is rules.ties(entries=entries)
    assert merges["average"].rule is rules.average(divisor=2)
    assert plain["ties"].rule is rules.ties() and plain["average"].rule is rules.average()

    tau = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), theta_0)

    def kept(merge):
        merged = merge.rule.finalize((tau,))
        leaves = jax.tree.leaves(merged)
        return sum(int((leaf != 0).sum()) for leaf in leaves) / sum(leaf.size for leaf in leaves)

    size = sum(leaf.size for leaf in jax.tree.leaves(theta_0))
    assert kept(plain["ties"]) == pytest.approx(0.2, abs=1e-3)
    assert kept(merges["ties"]) == pytest.approx(0.2 * entries / size, abs=1e-3)


def test_frozen_layers_equal_theta_0s_after_all_tasks(config, tiny_clip, tmp_path):
    frozen = dataclasses.replace(config.train, epochs=1, freeze=("*.layers.0.*",))
    out = RunDirectory(tmp_path / "frozen")
    run(dataclasses.replace(config, train=frozen, merges=()), out)
    theta_0 = nnx.state(CLIP.from_pretrained(tiny_clip).vision)
    with Checkpoints(out.checkpoints) as checkpoints:
        _, _, state = checkpoints.restore(lambda note: {"finetuned": theta_0})
    blocks = state["finetuned"]["blocks"], theta_0["blocks"]
    jax.tree.map(lambda now, then: np.testing.assert_array_equal(now[0], then[0]), *blocks)
    assert jax.tree.all(jax.tree.map(lambda now, then: (now[1] != then[1]).any(), *blocks))


def test_a_run_that_diverges_says_where_and_keeps_what_it_had(config, tmp_path):
    wild = dataclasses.replace(config.train, learning_rate=1e30, warmup_fraction=None)
    out = RunDirectory(tmp_path / "wild")
    with pytest.raises(DivergedError, match=r"task 1 \(1/5\): the loss is nan at step \d"):
        run(dataclasses.replace(config, train=wild), out)
    assert {row.model for row in out.rows()} == {"zero_shot"}
    assert metrics_of(out)[-1]["loss"] is None  # for `magmax watch`


def test_invalid_input_leaves_no_directory(config, tmp_path):
    out = RunDirectory(tmp_path / "none")
    for wrong in (
        dataclasses.replace(config, merges=("tyes",)),
        dataclasses.replace(config, model=ModelConfig(str(tmp_path / "nowhere"))),
        dataclasses.replace(config, scenario=ScenarioConfig(dataset="digits", num_tasks=3)),
    ):
        with pytest.raises(UserError):
            run(wrong, out)
        assert not out.path.exists()


def test_merges_are_rules_with_scales_that_share_a_state():
    texts = ("average", "max_magnitude@0.5", "average@0.3", "average")
    merges = parse_merges(ExperimentConfig(merges=texts))
    assert list(merges) == ["average", "max_magnitude"]
    assert merges["average"].rule is rules.average()
    assert merges["average"].scales == [1.0, 0.3]
    for wrong, message in (
        ("tyes", "'tyes' is not a merge rule"),
        ("average@", "needs a number after the @"),
        ("average@nan", "not finite"),
    ):
        with pytest.raises(UserError, match=message):
            parse_merges(ExperimentConfig(merges=(wrong,)))
