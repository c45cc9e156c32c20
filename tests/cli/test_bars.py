"""What `prepare` shows: TFDS's bars and ours, on a terminal and elsewhere."""

import io
import time

import pytest
from rich.console import Console
from tensorflow_datasets.core.utils import tqdm_utils

from magmax_jax.cli.prepare_bars import Bars
from magmax_jax.data.prepare.prepare import Options, prepare
from tests.data import archives


@pytest.fixture
def shown():
    return io.StringIO()


@pytest.fixture
def bars(shown):
    return Bars(
        Console(file=shown, force_terminal=True, width=120, highlight=False, soft_wrap=True)
    )


def test_tfds_draws_its_bars_only_on_a_terminal(bars, capsys):
    for display, drawn in ((bars, True), (Bars(Console(file=io.StringIO())), False)):
        with display.preparing("toy"), tqdm_utils.async_tqdm(total=0, desc="Dl Size...") as size:
            size.update_total(7)
            size.update(3)
        assert ("Dl Size" in capsys.readouterr().err) == drawn


def test_reading_shows_records(bars, shown):
    with bars.reading("toy", 1_000) as advance:
        advance(512)
        time.sleep(0.3)
    assert "toy: verifying" in shown.getvalue() and "512/1000" in shown.getvalue()


def test_a_whole_preparation(bars, shown, tmp_path, monkeypatch):
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    prepare("gtsrb", Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True), bars)
    assert "gtsrb: train 15, test 6; 3 classes; recorded in magmax.json" in shown.getvalue()


def test_without_a_terminal_only_plain_lines_are_printed(shown):
    bars = Bars(Console(file=shown, soft_wrap=True))
    with bars.reading("toy", 2) as advance:
        advance(2)
    assert shown.getvalue() == ""
    bars.say("toy: [bold] is not markup")
    assert shown.getvalue() == "toy: [bold] is not markup\n"
