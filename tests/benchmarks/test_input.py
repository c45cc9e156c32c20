"""The benchmark of reading at its smallest: what it tells, not how fast anything is."""

import json

import numpy as np
import pytest

from benchmarks import pictures
from benchmarks.input import READERS, Rate, main, rows
from benchmarks.pictures import KINDS
from magmax_jax.data.pipeline.decode import read


def test_it_tells_what_is_read_and_what_a_step_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SMALL", 8)
    output = tmp_path / "input.md"
    arguments = "--source cached --repeats 2 --seconds 0.01 --batch-size 4 --output".split()
    assert main([*arguments, str(output)]) == 0
    text = output.read_text()
    assert "| 32 x 32, cached |" in text and "| by threads |" in text
    assert "| tiny-clip, 32 px " in text and "| measured here, float32 " in text
    assert "| computed, not measured: 105 GFLOP / 400 TFLOP/s |" in text
    first, *rates = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "cores" in first["environment"]
    assert [len(rate["rates"]) for rate in rates] == [2, 2, 2, 1]  # threads, steps, the formula
    assert all(value > 0 for rate in rates for value in rate["rates"])


def test_a_mistake_is_told_in_a_sentence(capsys):
    assert main(["--repeats", "0"]) == 2
    assert capsys.readouterr().err == "error: --repeats: 0 is not positive\n"


def test_a_worker_is_held_against_the_step():
    medians = dict(zip(READERS, (100.0, 150.0, 50.0, 90.0), strict=True))
    readings = [Rate("a", reader, [rate]) for reader, rate in medians.items()]
    assert rows(readings, 1000.0) == [["a", "100", "150", "50", "90", "10.0"]]


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_what_they_are_called(name, tmp_path, monkeypatch):
    for count in ("SMALL", "MIDDLE", "LARGE"):
        monkeypatch.setattr(pictures, count, 1)
    kind = KINDS[name]
    source = kind.make(tmp_path, np.random.default_rng(0))
    height, width, _ = read(source.images, 0).shape
    least, *_ = read(source.images, 0, 560).shape
    if name in ("cached", "records"):
        assert (height, width) == source.image_shape == (32, 32)
    elif name == "middle":
        assert 320 <= height < 480 and 400 <= width < 600 and source.image_shape is None
    else:
        assert (height, width) == (1500, 2000) and least == (750 if name == "large" else 1500)
