"""Paths as users write them: home directories, and names that no file system accepts."""

import pytest

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import new_directory, write_text
from magmax_jax.io.user_path import user_path


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    assert str(user_path("a/~/x")) == "a/~/x"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "^out is empty: name a directory"),
        ("~nobody-here/x", "^out is ~nobody-here/x: ~nobody-here has no home directory here"),
        ("runs/" + "r" * 256, r"^out is runs/r+\.\.\.: it contains a name of 256 bytes"),
        ("ü" * 128, "a name of 256 bytes"),
        ("/d" * 2048, "it has 4,096 bytes, and systems allow 4,095"),
    ],
)
def test_names_that_no_file_system_accepts_are_named(path, message):
    with pytest.raises(UserError, match=message):
        user_path(path, "out")


def test_the_longest_valid_names_are_written(tmp_path):
    for name in ("a" * 255, "ü" * 127):
        user_path(tmp_path / name)
        write_text(tmp_path / name, "text")
        with new_directory(tmp_path / f"b{name[1:]}") as partial:
            (partial / "file").touch()
        assert (tmp_path / name).read_text() == "text"
    assert len(list(tmp_path.iterdir())) == 4
