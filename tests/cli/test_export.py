"""`python -m experiments.export`: a run's model as a directory."""

from magmax_jax.cli.main import main as magmax
from magmax_jax.models import CLIP
from tests.helpers.pretend_hub import TOKEN, connect, pretend_hub


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


def test_an_exported_model_is_uploaded_with_its_card(done, tmp_path, capsys, monkeypatch):
    with pretend_hub() as hub:
        connect(monkeypatch, hub, tmp_path / "no-token")
        out, push = tmp_path / "out", ["--push-to-hub", "acme/digits", "--private"]
        assert main(done.path, "--model", "max_magnitude@0.5", "--output", out, *push) == 0
        assert f"{hub.url}/acme/digits: " in capsys.readouterr().out
        uploaded = hub.files["acme/digits", "main"]
        assert uploaded.keys() == {path.name for path in out.iterdir()}
        card = uploaded["README.md"].decode()
        assert (
            "`max_magnitude@0.5` of a continual-learning run" in card
            and "| data | digits |" in card
        )
        assert "- magmax" in card and str(tmp_path) not in card and TOKEN not in card
        monkeypatch.delenv("HF_TOKEN")
        assert main(done.path, "--output", tmp_path / "more", *push) == 2
        assert "there is no token" in capsys.readouterr().err and not (tmp_path / "more").exists()
