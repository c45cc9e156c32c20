"""`--push-to-hub`, tried against a hub on this machine."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.helpers.pretend_hub import TOKEN, connect, pretend_hub
from tests.merge_files.conftest import merge, sources

REPO = "acme/merged"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with pretend_hub() as found:
        connect(monkeypatch, found, tmp_path / "no-token")
        yield found


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_output_and_its_card_are_uploaded(hub, models, tmp_path, capsys):
    out = tmp_path / "out"
    assert merge(*sources(models), "--output", out, "--push-to-hub", REPO) == 0
    assert hub.files[REPO, "main"] == content(out)
    assert b"# Merged model" in hub.files[REPO, "main"]["README.md"]
    assert "visibility" not in hub.repos[REPO]
    shown = capsys.readouterr()
    assert f"{hub.url}/{REPO}: {len(content(out))} files uploaded\n" in shown.out
    assert TOKEN not in shown.out + shown.err
    assert all(TOKEN.encode() not in file for file in content(out).values())


def test_a_private_repository_a_branch_and_a_message(hub, models, tmp_path, capsys):
    for round_ in ("first", "second"):  # repository and branch exist the second time
        push = ["--push-to-hub", REPO, "--private", "--revision", "may"]
        out = tmp_path / round_
        assert (
            merge(*sources(models), "--output", out, *push, "--commit-message", f"the {round_}")
            == 0
        )
        assert f"{hub.url}/{REPO}/tree/may: " in capsys.readouterr().out
    assert hub.repos[REPO]["visibility"] == "private"
    assert hub.files[REPO, "main"] == {} and hub.files[REPO, "may"] == content(out)
    assert hub.messages == ["the first", "the second"]


def test_a_dry_run_writes_nothing_anywhere(hub, models, tmp_path, capsys):
    out = tmp_path / "out"
    push = ["--push-to-hub", REPO, "--private", "--revision", "may"]
    assert merge(*sources(models), "--output", out, *push, "--dry-run") == 0
    expected = (
        f"uploads {out} with its model card to {hub.url}/{REPO}/tree/may "
        "(private repository, branch may)"
    )
    assert expected in capsys.readouterr().out.splitlines()
    assert hub.asked == ["GET /api/whoami-v2"] and not out.exists()


def no_token(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")


def wrong_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")


def offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def unreachable(hub, monkeypatch):
    hub.faults["whoami"] = 0


def failing(hub, monkeypatch):
    hub.faults["whoami"] = 500


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_token, "there is no token: run `hf auth login` with a token that may write, or set"),
        (wrong_token, "the hub does not accept the token: run `hf auth login`"),
        (offline, "HF_HUB_OFFLINE is set, so nothing can be uploaded: unset it, or leave"),
        (unreachable, "the hub cannot be reached ("),
        (failing, "the hub cannot be reached (Server error '500"),
    ],
)
def test_it_is_refused_before_anything_is_read(
    hub, monkeypatch, models, tmp_path, capsys, prepare, words
):
    prepare(hub, monkeypatch)
    (tmp_path / "theta_0" / "model.safetensors").write_bytes(b"not read")
    assert merge(*sources(models), "--output", tmp_path / "out", "--push-to-hub", REPO) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --push-to-hub {REPO}: {words}") and error.count("\n") == 1
    assert TOKEN not in error and not (tmp_path / "out").exists() and not hub.repos


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--push-to-hub", "merged"], "the owner is missing: write the repository as OWNER/NAME"),
        (["--push-to-hub", "a/b/c"], "this is not a repository: write it as OWNER/NAME"),
        (["--push-to-hub", "acme/two words"], "this is not a repository"),
        (["--push-to-hub", "acme/x.git"], "this is not a repository"),
        (["--private"], "--private, --revision and --commit-message need --push-to-hub"),
        (["--revision", "may"], "need --push-to-hub"),
        (["--push-to-hub", REPO, "--output", "x.safetensors"], "a single file without a model"),
    ],
)
def test_wrong_flags_are_refused_without_asking_the_hub(
    hub, models, tmp_path, capsys, flags, words
):
    assert merge(*sources(models), "--output", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1] and "Traceback" not in error
    assert not hub.asked and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pattern", "status", "words"),
    [
        ("commit", 401, "the hub does not accept the token): run `hf auth login`"),
        ("repos/create|api/models/", 403, "the token has no write access to it): run `hf auth"),
        ("commit", 500, "(Server error '500"),
        ("commit", 0, "): to repeat run hf upload"),
        ("branch", 400, "to repeat run hf upload"),
        ("^/lfs/", 403, "the token has no write access to it)"),
    ],
)
def test_a_failed_upload_leaves_the_output_and_names_the_command(
    hub, models, tmp_path, capsys, pattern, status, words
):
    hub.faults[pattern] = status
    out = tmp_path / "two words"
    push = ["--push-to-hub", REPO, "--private", "--revision", "may", "--commit-message", "in May"]
    assert merge(*sources(models), "--output", out, *push) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {out} is complete, but could not be uploaded to {REPO} (")
    assert words in error and TOKEN not in error
    whole = content(out)
    assert {"README.md", "model.safetensors"} <= whole.keys()
    command = shlex.split(error.rpartition(" run ")[2])
    assert command[:4] == ["hf", "upload", REPO, str(out)]


@pytest.mark.slow
def test_the_named_command_uploads_the_output_later(hub, models, tmp_path, capsys):
    out = tmp_path / "two words"
    hub.faults["commit"] = 500
    push = ["--push-to-hub", REPO, "--private", "--revision", "may", "--commit-message", "in May"]
    assert merge(*sources(models), "--output", out, *push) == 2
    command = shlex.split(capsys.readouterr().err.rpartition(" run ")[2])
    hub.faults.clear()
    program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert hub.files[REPO, "may"] == content(out) and hub.messages == ["in May"]


def test_an_interrupted_upload_names_the_command(hub, models, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", interrupt)
    out = tmp_path / "out"
    assert merge(*sources(models), "--output", out, "--push-to-hub", REPO) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{out} is complete; to upload it, run hf upload {REPO} {out}"
    )
