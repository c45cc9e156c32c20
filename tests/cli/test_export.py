"""`python -m experiments.export`: a run's model as a directory."""

import pytest

from magmax_jax.cli import export
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import exit_code
from magmax_jax.models import CLIP
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.train import run


@pytest.fixture(scope="module")
def kept(tiny_clip, tmp_path_factory):
    """A run that keeps every task's model."""
    out = tmp_path_factory.mktemp("runs") / "kept"
    config = ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=2),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=(),
        eval_batch_size=32,
    )
    run(config, RunDirectory(out))
    return out


def main(*arguments) -> int:
    return exit_code(lambda: export.main(list(map(str, arguments))))


def test_models_come_out(kept, tmp_path, capsys):
    for model in ("finetuned", "task:1", "task:2"):
        out = tmp_path / model
        assert main(kept, "--model", model, "--output", out, "--dtype", "float16") == 0
        assert str(out) in capsys.readouterr().out
        CLIP.from_pretrained(out)
    first, second, last = (
        (tmp_path / name / "model.safetensors").read_bytes()
        for name in ("task:1", "task:2", "finetuned")
    )
    assert second == last != first


def test_what_is_not_there_is_told(kept, tmp_path, capsys):
    for source, model, words in (
        (tmp_path, "finetuned", "is no run's directory"),
        (kept, "task:3", "holds no model of task 3 (the first is 1): run with --checkpoint.keep-"),
        (kept, "task:0", "holds no model of task 0 (the first is 1)"),
        (kept, "max_magnitude", "choose finetuned, zero_shot, task:NUMBER\n"),
    ):
        assert main(source, "--model", model, "--output", tmp_path / "out") == 2
        assert words in capsys.readouterr().err
    assert main(kept, "--output", kept) == 2
    assert "exists already" in capsys.readouterr().err
