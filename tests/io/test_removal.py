"""Removes directories with all that is in them."""

import os

from magmax_jax.io.removal import remove_tree


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
    remove_tree(folder)
    assert not folder.exists() and len(calls) == 2


def test_what_is_gone_or_cannot_be_removed_is_no_error(tmp_path, monkeypatch):
    remove_tree(tmp_path / "nothing")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rmdir", refuse)
    remove_tree(folder)
    assert folder.exists()
