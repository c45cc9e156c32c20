"""`python -m experiments.export`: a run's model as a directory."""

from magmax_jax.cli.main import main as magmax
from magmax_jax.models import CLIP


def main(*arguments) -> int:
    return magmax(["export", *map(str, arguments)])


def test_models_are_exported(done, tmp_path, capsys):
    for model in ("finetuned", "task:4", "task:5"):
        out = tmp_path / model
        assert main(done.path, "--model", model, "--output", out, "--dtype", "float16") == 0
        assert str(out) in capsys.readouterr().out
        CLIP.from_pretrained(out)
    before, newest, last = (
        (tmp_path / name / "model.safetensors").read_bytes()
        for name in ("task:4", "task:5", "finetuned")
    )
    assert newest == last != before


def test_missing_models_are_reported(done, tmp_path, capsys):
    run = done.path
    for source, model, words in (
        (tmp_path, "finetuned", "is not a run directory"),
        (
            run,
            "task:6",
            "contains no model of task 6 (the first is 1): run with --checkpoint.keep-",
        ),
        (run, "task:0", "contains no model of task 0 (the first is 1)"),
        (run, "ties", "choose finetuned, zero_shot, task:NUMBER or one of max_magnitude[@SCALE]\n"),
    ):
        assert main(source, "--model", model, "--output", tmp_path / "out") == 2
        assert words in capsys.readouterr().err
    assert main(run, "--output", run) == 2
    assert "already exists" in capsys.readouterr().err
