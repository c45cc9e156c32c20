"""Standalone image towers end to end: merged as files, evaluated, fine-tuned, exported."""

import jax
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from tests.models.towers import write_tower, write_whole

DIGITS = ("--scenario.dataset", "digits", "--scenario.limit-per-class", "3", "--cache", "None")


def evaluated(*arguments) -> int:
    return main(["evaluate", *map(str, arguments), "--batch-size", "32"])


def facts(rows):
    return [(row.protocol, row.group, row.accuracy, row.top5, row.count) for row in rows]


@pytest.fixture(scope="module")
def towers(tiny_clip, tmp_path_factory):
    """theta_0 and two fine-tuned towers, one of them with unprefixed names."""
    folder = tmp_path_factory.mktemp("towers")
    return (
        write_tower(folder / "base", tiny_clip),
        write_tower(folder / "first", tiny_clip, prefix=False, shift=0.2),
        write_tower(folder / "second", tiny_clip, shift=-0.5),
    )


def test_towers_are_merged_as_files_and_evaluated(towers, tiny_clip, tmp_path):
    base, *finetuned = map(str, towers)
    merged, whole = tmp_path / "merged", tmp_path / "whole"
    words = ["--pretrained", base, "--finetuned", *finetuned, "--output", str(merged)]
    assert main(["merge", *words]) == 0

    found = mm.CLIP.from_pretrained(merged, text_source=tiny_clip)
    theta_0 = mm.CLIP.from_pretrained(tiny_clip)
    before, after = (dict(nnx.to_flat_state(m.image_tower("float32")[1])) for m in (theta_0, found))
    for name, x in before.items():
        shift = 0 if name[0] == "projection" else -0.25  # half of the larger change
        np.testing.assert_allclose(after[name][...], x[...] + shift, atol=1e-6)

    write_whole(whole, tiny_clip, merged)
    assert evaluated(merged, *DIGITS, "--text-source", tiny_clip, "--out", tmp_path / "out") == 0
    shown = facts(read_rows(tmp_path / "out" / "results.jsonl"))
    scenario = ScenarioConfig(dataset="digits", num_tasks=1, limit_per_class=3)
    models = {"tower": merged, "whole": whole}
    settings = {"scenario": scenario, "text_source": tiny_clip, "batch_size": 32}
    rows = mm.evaluate(models, **settings, progress=False)
    for name in models:
        assert facts(row for row in rows if row.model == name) == shown


def test_invalid_input_gives_a_one_sentence_error(towers, tiny_clip, tmp_path, capsys):
    base = towers[0]
    for words, message in (
        ((base,), "--model.text-source openai/clip-vit-base-patch16"),
        ((tiny_clip, "--text-source", tiny_clip), "no model here is only an image tower"),
        ((base, "--text-source", tmp_path / "nowhere"), "there is no such directory"),
        ((base, "--text-source", base), "base/config.json: 'clip_vision_model' is only an image"),
    ):
        assert evaluated(*words, *DIGITS) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def config(towers, tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(towers[1]), text_source=str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=(),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def whole(config, towers, tiny_clip, tmp_path_factory):
    """The same configuration with the same tower inside a whole model."""
    source = write_whole(tmp_path_factory.mktemp("whole") / "clip", tiny_clip, towers[1])
    return config.replace(model={"source": str(source), "text_source": None})


def test_a_run_starts_like_a_run_of_the_whole_model(config, whole):
    scenario = build_scenario(config.scenario, config.seed)
    ours, theirs = (build_run(each, scenario, one_device()) for each in (config, whole))
    for name in ("theta_0", "head"):
        pair = getattr(ours, name), getattr(theirs, name)
        jax.tree.map(np.testing.assert_array_equal, *pair)
    assert (ours.shape, ours.preprocessing) == (theirs.shape, theirs.preprocessing)


def test_its_plan_matches_the_whole_models(config, whole):
    data = data_size(config.scenario, config.seed)
    planned = estimate(config, data)
    assert planned.nbytes and planned == estimate(whole, data)
    with pytest.raises(UserError, match="only an image tower"):
        estimate(config.replace(model={"text_source": None}), data)


@pytest.fixture
def started(config, tmp_path):
    """A run that has not trained yet."""
    out = RunDirectory(tmp_path / "run")
    out.start(config)
    out.checkpoints.mkdir()
    return out


def test_a_run_exports_a_whole_model(started, whole, tmp_path):
    exported = mm.export(started.path, tmp_path / "zero_shot", model="zero_shot")
    ours, theirs = (mm.CLIP.from_pretrained(d) for d in (exported, whole.model.source))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(ours), nnx.state(theirs))
    assert ours.companions == theirs.companions


@pytest.mark.slow
def test_a_run_of_a_tower_is_evaluated_without_flags(config, whole, tmp_path):
    """Its tasks also match those of the whole model's run."""
    out, other = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "other")
    run(config, out)
    run(whole, other)
    assert out.rows() == other.rows()
    last = facts(row for row in out.rows() if (row.after_task, row.model) == (2, "finetuned"))
    assert evaluated(out.path, "--out", tmp_path / "rows", "--cache", "None") == 0
    assert facts(read_rows(tmp_path / "rows" / "results.jsonl")) == last
    run(config, out)  # which is finished
    assert out.rows() == other.rows()


def test_a_run_is_recognised_through_a_link(started, config, tiny_clip, tmp_path):
    (tmp_path / "link").symlink_to(tiny_clip)
    assert started.differs(config.replace(model={"text_source": str(tmp_path / "link")})) == []
    other = started.differs(config.replace(model={"text_source": "some/clip"}))
    assert other == [f"model.text_source: {tiny_clip} there, some/clip here"]
