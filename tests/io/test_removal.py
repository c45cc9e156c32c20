"""Removes files and directories, as far as the disk allows."""

import os

from magmax_jax.io.removal import remove


def test_a_removal_that_signals_interrupt_is_repeated(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").touch()
    real, calls = os.unlink, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) < 2:
            raise InterruptedError(4, "Interrupted system call")
        real(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", interrupted)
    remove(folder)
    assert not folder.exists() and len(calls) == 2


def test_a_link_is_removed_and_what_it_leads_to_is_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    for name in ("folder", "folder/file", "nothing"):
        (tmp_path / "link").symlink_to(tmp_path / name)
        remove(tmp_path / "link")
    assert os.listdir(tmp_path) == ["folder"]
    remove(tmp_path / "folder" / "file")
    assert os.listdir(tmp_path / "folder") == []


def test_what_is_gone_or_cannot_be_removed_is_no_error(tmp_path, monkeypatch):
    remove(tmp_path / "nothing")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rmdir", refuse)
    remove(folder)
    assert folder.exists()
