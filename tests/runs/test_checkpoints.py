"""Checkpoints: what is restored, how many are kept, and how damaged ones are handled."""

import contextlib
import json
import logging
import resource
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import multihost

from magmax_jax.errors import Interrupted, UserError
from magmax_jax.runs.checkpoints import DIGEST, KEPT, Checkpoints
from magmax_jax.runs.orbax_log import OrbaxLog


def trees(seed: int) -> dict:
    random = np.random.default_rng(seed)
    return {
        "model": {"w": jnp.asarray(random.normal(size=(300, 20)), jnp.float32), "n": jnp.int32(3)},
        "rest": (jnp.asarray(random.normal(size=5), jnp.bfloat16), jnp.array([True, False])),
        "nothing": (),
    }


def like(note) -> dict:
    return jax.eval_shape(lambda: trees(0))


def flip(directory, bit: int) -> None:
    """Damages the largest file of a checkpoint."""
    path = max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for number in (2, 5, 9):
            checkpoints.save(number, trees(number), {"number": number})
    return tmp_path


def test_the_latest_is_restored_to_the_bit(saved):
    with Checkpoints(saved) as checkpoints:
        assert len(checkpoints.numbers) == KEPT and checkpoints.numbers == [5, 9]
        found = checkpoints.restore(like)
        assert (found.number, found.note) == (9, {"number": 9})
        jax.tree.map(np.testing.assert_array_equal, found.trees, trees(9))
        part = checkpoints.restore(lambda note: {"model": like(note)["model"]}, 5)
    jax.tree.map(np.testing.assert_array_equal, part.trees, {"model": trees(5)["model"]})


def test_arrays_may_be_donated_as_soon_as_they_are_saved(tmp_path):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        state = trees(1)["model"]
        checkpoints.save(1, {"model": state}, {})
        spoil(state)
        found = checkpoints.restore(lambda note: {"model": like(note)["model"]})
    jax.tree.map(np.testing.assert_array_equal, found.trees["model"], trees(1)["model"])


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_noticed_and_the_previous_checkpoint_used(saved, bit):
    flip(saved / "9", bit)
    said = []
    with Checkpoints(saved, say=said.append) as checkpoints:
        found = checkpoints.restore(like)
        assert found.number == 5
        jax.tree.map(np.testing.assert_array_equal, found.trees, trees(5))
        checkpoints.save(9, trees(9), {"number": 9})  # its number is free again
    assert "9 is damaged" in said[0] and (saved / "9.damaged").is_dir()
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.restore(like).number == 9


def test_lost_files_count_as_damage_and_it_is_reported_if_none_is_left(saved):
    for number in (5, 9):
        (saved / str(number) / "note" / "metadata").unlink()
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(UserError, match="no checkpoint that can be read"),
    ):
        checkpoints.restore(like)


def test_a_changed_note_is_noticed(saved):
    (note,) = (saved / "9" / "note").glob("metadata")
    note.write_text(note.read_text().replace('"number": 9', '"number": 8'))
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.restore(like).note == {"number": 5}


def test_notes_without_a_digest_are_read(saved):
    note = saved / "9" / "note" / "metadata"
    content = json.loads(note.read_text())
    del content[DIGEST]
    note.write_text(json.dumps(content))
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.restore(like).note == {"number": 9}


def test_an_empty_directory_holds_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(like) is None and checkpoints.numbers == []


class Unraisable(NamedTuple):
    exc_value: Exception


LARGE = {"model": {"w": jax.random.normal(jax.random.key(0), (1 << 20,))}}


@contextlib.contextmanager
def full_disk():
    """Files of more than 1 MB cannot be written, by native code either."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("later", ["save", "wait", "close"])
def test_a_checkpoint_that_cannot_be_written_is_reported_once(tmp_path, caplog, later):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, trees(1), {})
    call = {
        "save": lambda: checkpoints.save(3, trees(3), {}),
        "wait": checkpoints.wait,
        "close": checkpoints.close,
    }[later]
    with full_disk():
        checkpoints.save(2, LARGE, {})
        with pytest.raises(UserError) as caught:
            call()
    place, said = tmp_path / "2", str(caught.value)
    assert said.startswith(f"the checkpoint {place} cannot be written (File too large): make room")
    checkpoints.close()
    assert not caplog.records and [p.name for p in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("ending", "raised"), [(Interrupted(15), UserError), (ZeroDivisionError(), ZeroDivisionError)]
)
def test_an_interruption_says_that_all_is_saved_only_if_it_is(tmp_path, ending, raised):
    said = []
    with full_disk(), pytest.raises(raised), Checkpoints(tmp_path, say=said.append) as checkpoints:
        checkpoints.save(2, LARGE, {})
        raise ending
    assert len(said) == (raised is ZeroDivisionError)
    assert all(line.startswith(f"note: the checkpoint {tmp_path / '2'} cannot") for line in said)


def test_a_checkpoint_that_vanishes_without_an_error_is_reported(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", lambda number, args: False)
        checkpoints.save(2, trees(2), {})
        with pytest.raises(UserError, match=r"2 cannot be written \(Orbax wrote nothing\)"):
            checkpoints.wait()


def test_errors_that_orbax_only_logs_become_notes(tmp_path, caplog):
    said, error = [], OSError(5, "Input/output error")
    with Checkpoints(tmp_path, say=said.append):
        for place in ("lib/orbax/deleter.py", "lib/another.py"):
            record = logging.LogRecord(
                "absl", logging.ERROR, place, 1, "not removed", (), (OSError, error, None)
            )
            logging.getLogger("absl").handle(record)
    assert said == ["note: not removed (Input/output error)"]
    assert [record.pathname for record in caplog.records] == ["lib/another.py"]
    with OrbaxLog() as log:
        assert log.taken() == []


def test_a_run_removes_what_an_interrupted_write_has_left(saved):
    (saved / "12.orbax-checkpoint-tmp" / "note").mkdir(parents=True)
    with Checkpoints(saved):
        assert (saved / "12.orbax-checkpoint-tmp").is_dir()
    with Checkpoints(saved, tidy=True) as checkpoints:
        assert checkpoints.numbers == [5, 9]
    assert sorted(path.name for path in saved.iterdir()) == ["5", "9"]


def test_what_a_failed_save_no_longer_waits_for_is_not_printed(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    late, other = (Unraisable(RuntimeError(text)) for text in ("Event loop is closed", "other"))
    with OrbaxLog() as log:
        sys.unraisablehook(late)
        sys.unraisablehook(other)
        log.failed = True
    sys.unraisablehook(late)  # its native writes go on
    assert seen == [other]
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with OrbaxLog():
        pass
    sys.unraisablehook(late)
    assert seen == [other, late]


def test_two_directories_share_no_barrier_of_several_processes(tmp_path, monkeypatch):
    keys = []

    def barrier(*, key: str, timeout_ms: int) -> None:
        keys.append(key)

    monkeypatch.setattr(multihost, "get_barrier_sync_fn", lambda **kwargs: barrier)
    for name in ("checkpoints", "tasks"):
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(1, trees(1), {})
        assert keys and all(key.startswith(f"{name}_") for key in keys), keys
        keys.clear()
