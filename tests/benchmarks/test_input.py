"""The reading benchmark at its smallest: what it reports, not how fast anything is."""

import json

import pytest

from benchmarks.input import KINDS, READERS, Settings, main, reading_table
from magmax_jax.data.pipeline.decode import read
from tests.benchmarks.test_train import cells


@pytest.mark.slow
def test_it_reports_what_is_read(tmp_path):
    output = tmp_path / "input.md"
    flags = "--source cached --small 8 --repeats 2 --seconds 0.01 --output".split()
    assert main([*flags, str(output)]) == 0
    _, row = cells(output.read_text())
    assert row[0] == "32 x 32, cached" and row[3:5] == ["by threads"] * 2
    first, *rates = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "cores" in first["environment"]
    assert [(rate["reader"], len(rate["rates"])) for rate in rates] == [
        ("1 thread", 2), ("2 threads", 2),
    ]  # fmt: skip
    assert all(value > 0 for rate in rates for value in rate["rates"])


def test_invalid_input_gives_a_one_sentence_error(capsys):
    assert main(["--repeats", "0"]) == 2
    assert capsys.readouterr().err == "error: --repeats: 0 is not positive\n"


def test_a_worker_is_compared_with_the_step():
    medians = dict(zip(READERS, (100.0, 150.0, 50.0, 90.0), strict=True))
    (_, row) = cells(reading_table({"a": medians}, 1000.0))
    assert row == ["a", "100", "150", "50", "90", "10.0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_kinds_match_their_names(name, tmp_path):
    source = KINDS[name].make(Settings(small=1, photographs=1), tmp_path)
    height, width, _ = read(source.images, 0).shape
    least, *_ = read(source.images, 0, 560).shape
    if name in ("cached", "records"):
        assert (height, width) == source.image_shape == (32, 32)
    elif name == "middle":
        assert 320 <= height < 480 and 400 <= width < 600 and source.image_shape is None
    else:
        assert (height, width) == (1500, 2000) and least == 750  # decoded at half its size
