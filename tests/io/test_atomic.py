"""Files and directories that appear whole or not at all."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from magmax_jax.errors import UserError
from magmax_jax.io import atomic
from magmax_jax.io.atomic import new_directory, new_file, replace_directory, write_text


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_only_by_a_complete_one(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "before ä\n")
    with pytest.raises(KeyboardInterrupt), new_file(path) as partial:
        partial.write_text("half")
        assert path.read_text("utf-8") == "before ä\n"
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file.txt"] and path.read_text("utf-8") == "before ä\n"
    with new_file(path) as partial:
        partial.write_bytes(b"after")
    assert names(tmp_path) == ["file.txt"] and path.read_text() == "after"


def test_a_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    """Otherwise a power failure could leave an empty file under the final name."""
    path, done = tmp_path / "file.txt", []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(f"{tmp_path}"))
        real_sync(handle)

    def replace(old, new):
        done.append("replace")
        real_replace(old, new)

    monkeypatch.setattr(atomic.os, "fsync", sync)
    monkeypatch.setattr(atomic.os, "replace", replace)
    write_text(path, "text")
    file, renamed, folder = done
    assert file.endswith(".partial") and renamed == "replace" and folder == ""


def test_several_writers_of_one_file_do_not_collide(tmp_path):
    path = tmp_path / "file.txt"
    texts = [str(i) * 10_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(path, text), texts))
    assert path.read_text() in texts and names(tmp_path) == ["file.txt"]


def test_a_killed_writer_leaves_the_file_unchanged(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "before")
    program = (
        "import os, pathlib, signal, sys\n"
        "from magmax_jax.io.atomic import new_file\n"
        "with new_file(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    assert path.read_text() == "before"
    (left,) = set(names(tmp_path)) - {"file.txt"}
    assert left.endswith(".partial")


def test_a_new_directory_appears_whole_or_not_at_all(tmp_path):
    output = tmp_path / "inner" / "out"
    with pytest.raises(ZeroDivisionError), new_directory(output) as partial:
        (partial / "a").touch()
        _ = 1 / 0
    assert names(tmp_path / "inner") == []
    with new_directory(output) as partial:
        (partial / "a").touch()
        assert not output.exists()
    assert names(tmp_path / "inner") == ["out"] and names(output) == ["a"]
    with pytest.raises(UserError, match="already exists"), new_directory(output):
        pass


def test_a_directory_is_replaced_only_by_a_complete_one(tmp_path):
    output = tmp_path / "out"
    for name in ("first", "second"):
        with replace_directory(output) as partial:
            (partial / name).touch()
        assert names(output) == [name]
    with pytest.raises(ZeroDivisionError), replace_directory(output) as partial:
        (partial / "third").touch()
        _ = 1 / 0
    assert names(output) == ["second"] and names(tmp_path) == ["out"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_that_cannot_be_replaced_is_kept(tmp_path, monkeypatch, exists):
    output, real = tmp_path / "out", os.replace
    if exists:
        output.mkdir()
        (output / "first").touch()

    def refuse(old, new):
        if new == output and (old / "second").exists():
            raise OSError(28, "No space left on device")
        real(old, new)

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with (
        pytest.raises(UserError, match="out cannot be written"),
        replace_directory(output) as partial,
    ):
        (partial / "second").touch()
    assert names(tmp_path) == (["out"] if exists else [])
    assert not exists or names(output) == ["first"]


STOPPED = """
import os, pathlib, signal, sys
from magmax_jax.io.atomic import replace_directory
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with it ignored
output, real = pathlib.Path(sys.argv[1]), os.replace
def replace(old, new):
    if new == output:
        os.replace = real
        signal.raise_signal(int(sys.argv[2]))
    real(old, new)
with replace_directory(output) as partial:
    (partial / "second").touch()
    os.replace = replace
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_directory_outlives_a_process_that_is_stopped_while_it_replaces_it(tmp_path, sent):
    output = tmp_path / "out"
    with replace_directory(output) as partial:
        (partial / "first").touch()
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(output), str(int(sent))], capture_output=True
    )
    assert done.returncode == -sent
    with pytest.raises(ZeroDivisionError), replace_directory(output):
        _ = 1 / 0
    assert names(output) == ["first"] and names(tmp_path) == ["out"]
