"""The output and the state of a merge appear together, whatever happens between their renames."""

import os
import shutil
from pathlib import Path

import pytest

from magmax_jax.io import rooms
from magmax_jax.merge_files import next_state
from magmax_jax.merge_files.next_state import NextState
from magmax_jax.merge_files.state import read_state
from tests.merge_files.conftest import merge, sources

BROKEN = OSError(5, "broken")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(params=["out", "out.safetensors"])
def killed(request, models, tmp_path, monkeypatch):
    """Flags of a merge that was killed between the two renames, its folder, and the same folder
    after an undisturbed one."""
    whole, folder = tmp_path / "whole", tmp_path / "folder"
    for place in (whole, folder):
        place.mkdir()
    flags = [*sources(models[:3]), "--state", "state", "--output", request.param]
    monkeypatch.chdir(whole)
    assert merge(*flags) == 0
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        patch.setattr(NextState, "publish", lambda self: None)
        patch.setattr(rooms, "remove", lambda path: None)
        assert merge(*flags) == 0
    assert not Path("state").exists() and Path(request.param).exists()
    return flags, folder, tree(whole)


def test_the_same_command_finishes_a_killed_merge(killed, capsys):
    flags, folder, whole = killed
    assert merge(*flags) == 0
    said = capsys.readouterr()
    assert "2 models at scale 0.5" in said.out and "which was interrupted" in said.err
    assert tree(folder) == whole and not list(folder.glob(".*"))
    assert merge(*flags) == 2
    assert "already exists" in capsys.readouterr().err


def test_another_command_continues_the_state_of_a_killed_merge(killed, models):
    _, folder, whole = killed
    more = ["--finetuned", models[3], "--state", "state", "--output", "more"]
    assert merge(*more) == 0
    shutil.copytree(folder / "more", folder / "wanted")
    shutil.rmtree("more")
    assert len(read_state(folder / "state")[0].tasks) == 3
    (folder / "state").write_bytes(whole["state"])
    assert merge(*more) == 0
    assert tree(folder / "more") == tree(folder / "wanted")


@pytest.mark.parametrize("change", ["edited", "copied", "removed", "another state"])
def test_nothing_is_finished_that_has_changed_since(killed, change):
    flags, folder, whole = killed
    output = folder / flags[-1]
    file = output if output.is_file() else output / "model.safetensors"
    if change == "edited":
        with file.open("ab") as opened:
            opened.write(b" ")
    elif change == "copied":
        shutil.copy(file, folder / "copy")
        os.replace(folder / "copy", file)
    elif change == "removed":
        file.unlink()
    else:
        (folder / "state").write_bytes(whole["state"])
    before = {name: content for name, content in tree(folder).items() if ".partial" not in name}
    assert next_state.finish_interrupted(folder / "state") is None
    after = {name: content for name, content in tree(folder).items() if ".partial" not in name}
    assert after == before


def test_a_dry_run_finishes_nothing(killed):
    flags, folder, _ = killed
    assert merge(*flags, "--dry-run") == 0
    assert not (folder / "state").exists()


def test_finishing_is_tried_again_after_a_disk_error(killed, monkeypatch, capsys):
    flags, folder, whole = killed
    with monkeypatch.context() as patch:
        patch.setattr(next_state.os, "replace", failing(next_state.os.replace, "state"))
        assert merge(*flags) == 2
    assert "state cannot be written" in capsys.readouterr().err
    assert merge(*flags) == 0
    assert tree(folder) == whole


@pytest.mark.parametrize("name", ["out", "out.safetensors"])
@pytest.mark.parametrize("error", [BROKEN, KeyboardInterrupt()])
def test_the_output_is_withdrawn_if_the_state_cannot_be_renamed(
    models, tmp_path, monkeypatch, capsys, name, error
):
    folder = tmp_path / "folder"
    folder.mkdir()
    flags = [*sources(models), "--state", folder / "state", "--output", folder / name]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace, "state", error))
        assert merge(*flags) in (2, 130)
    said = capsys.readouterr().err
    assert "state cannot be written (broken)" in said or "interrupted" in said
    assert tree(folder) == {}
    assert merge(*flags) == 0


def failing(real, name: str, error: BaseException = BROKEN):
    """`os.replace`, except that nothing can get that name."""

    def replace(old, new) -> None:
        if Path(new).name == name:
            raise error
        real(old, new)

    return replace
