"""JSON lines: written whole, read up to a truncated line, followed while a process appends."""

import json

import pytest

from magmax_jax.io import json_lines
from magmax_jax.io.json_lines import Follower

RECORDS = [{"a": 1, "b": "ä\u2028"}, {"a": 0.1}, {"a": None}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lines.jsonl"


def test_records_that_were_written_and_appended_are_read(path):
    assert json_lines.read(path) == []
    json_lines.write(path, RECORDS[:1])
    json_lines.append(path, iter(RECORDS[1:]))
    assert json_lines.read(path) == RECORDS
    assert len(path.read_text().splitlines()) == 3
    json_lines.write(path, RECORDS[1:])
    assert json_lines.read(path) == RECORDS[1:]


@pytest.mark.parametrize("torn", ['{"a": 2', '{"a": 2}', "\0\0\n", "[1]\n", "2\n", '{"a": \n'])
def test_reading_ends_at_a_truncated_line(path, torn):
    path.write_text('{"a": 1}\n' + torn)
    assert json_lines.read(path) == [{"a": 1}]


def test_numbers_must_be_finite_and_fit_into_64_bits():
    for value, fits in ((1, True), (2**63, False), (10**400, False), (1e308, True)):
        assert json_lines.has_fields({"a": value}, {"a": json_lines.NUMBER}) == fits
    assert not json_lines.has_fields({"a": float("nan")}, {"a": json_lines.NUMBER})
    assert not json_lines.has_fields({}, {"a": json_lines.NUMBER_OR_NONE})


def test_truncation_keeps_all_records_before_it(path):
    json_lines.write(path, RECORDS)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert json_lines.read(path) == RECORDS[: whole[:cut].count(b"\n")]


def test_a_follower_reads_partial_lines_once_they_are_complete(path):
    follower = Follower(path)
    assert follower.look() == (False, [])
    path.write_text('{"a": 1}\n{"a"')
    assert follower.look()[1] == [{"a": 1}]
    assert follower.look() == (False, [])
    with path.open("a") as file:
        file.write(": 2}\n\0\0\0\n")  # what a network file system shows before the data arrives
    assert follower.look() == (False, [{"a": 2}])
    text = path.read_bytes().replace(b"\0\0\0", b'{"a": 3}')
    path.write_bytes(text)  # in place, as the data arrives
    assert follower.look() == (False, [{"a": 3}])


def test_a_follower_reads_only_what_was_added(path, monkeypatch):
    follower = Follower(path)
    json_lines.write(path, ({"a": i} for i in range(1000)))
    assert len(follower.look()[1]) == 1000
    parsed = []
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or {})
    json_lines.append(path, [{"a": 1000}])
    assert follower.look() == (False, [{}]) and parsed == ['{"a": 1000}\n']


def test_a_follower_rereads_a_replaced_truncated_or_removed_file(path):
    follower = Follower(path)
    json_lines.write(path, [{"a": 1}, {"a": 2}])
    follower.look()
    json_lines.write(path, [{"a": 1}, {"a": 2}, {"a": 3}])
    assert follower.look() == (True, [{"a": 1}, {"a": 2}, {"a": 3}])
    path.write_text('{"a": 1}\n')
    assert follower.look() == (True, [{"a": 1}])
    path.write_text('{"b": 1}\n{"b": 2}\n')  # the same file with other content
    assert follower.look() == (True, [{"b": 1}, {"b": 2}])
    path.unlink()
    assert follower.look() == (True, [])
    assert follower.look() == (False, [])


def test_a_line_that_is_not_utf_8_ends_what_is_read(path):
    path.write_bytes(b'{"a": 1}\n{"a": "\xed\xa0\x80"}\n{"a": 3}\n')  # Python's parser takes it
    assert json_lines.read(path) == [{"a": 1}]
