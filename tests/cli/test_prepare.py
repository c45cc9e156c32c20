"""`python -m experiments.prepare`: command line, messages and exit codes."""

import pytest

from magmax_jax.cli import prepare
from magmax_jax.data.prepare import download
from magmax_jax.data.prepare import prepare as preparation
from magmax_jax.errors import UserError, exit_code
from tests.data import archives
from tests.data.rows import prepared_rows


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for variable in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(variable, "")  # the launcher sets them; restored afterwards


def main(*arguments) -> int:
    try:
        return exit_code(lambda: prepare.main(list(map(str, arguments))))
    except SystemExit as ending:
        return ending.code or 0


@pytest.fixture
def attempts(monkeypatch):
    """Names requested so far; cars, svhn and dtd each fail in a different way."""
    seen = []

    def attempt(name, options, display):
        seen.append(name)
        if name == "cars":
            raise UserError("cars: no link")
        if name == "svhn":
            raise RuntimeError("a bug")
        if name == "dtd":
            raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "prepare", attempt)
    return seen


def test_help_lists_the_options(capsys):
    assert main("--help") == 0
    shown = capsys.readouterr().out
    for option in ("--data-dir", "--manual-dir", "--verify", "--repacked", "--keep-archives"):
        assert option in shown


def test_names_are_deduplicated_and_lists_expanded(attempts, capsys):
    assert main("mnist", "mnist", "cifar10") == 0
    assert attempts == ["mnist", "cifar10"]
    attempts.clear()
    main("eight")
    assert attempts == ["cars", "mnist", "eurosat", "svhn", "resisc45", "sun397", "dtd"]


@pytest.mark.parametrize("names", [("all",), ("twenty", "cars")])
def test_lists_expand_to_their_data_sets_without_repeats(names, monkeypatch):
    seen = []
    monkeypatch.setattr(preparation, "prepare", lambda name, options, display: seen.append(name))
    assert main(*names) == 0
    if names == ("all",):
        assert seen == [row.name for row in prepared_rows()]
    else:
        assert seen[-1] == "kmnist" and seen.count("cars") == 1


def test_a_failure_does_not_stop_the_others(attempts, capsys):
    assert main("cars", "mnist") == 2
    assert attempts == ["cars", "mnist"]
    shown = capsys.readouterr().err
    assert "error: cars: no link\n" in shown and "not prepared: cars (1 of 2)" in shown
    assert main("cars", "svhn", "mnist") == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: a bug" in shown and "not prepared: cars, svhn (2 of 3)" in shown


def test_an_interruption_stops_all(attempts, capsys):
    assert main("dtd", "mnist") == 130
    assert attempts == ["dtd"]


def test_unknown_names_are_refused_before_any_work(attempts, capsys):
    assert main("mnist", "cifar1000") == 2
    assert not attempts and "choose from cars, cifar10, cifar100" in capsys.readouterr().err
    assert main() == 2
    assert "no data set is given: choose one or more of cars, cifar10" in capsys.readouterr().err


def test_prepares_and_reports(tmp_path, monkeypatch, capsys):
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    folders = ("--data-dir", tmp_path / "data", "--manual-dir", tmp_path / "archives")
    assert main("gtsrb", *folders, "--verify") == 2
    assert "is not prepared" in capsys.readouterr().err
    assert main("gtsrb", *folders, "--repacked") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"gtsrb: preparing in {tmp_path}/data/gtsrb/1.0.0",
        "gtsrb: train 15, test 6; 3 classes; recorded in magmax.json",
    ]
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda module: None)
    assert main("cifar10", "gtsrb", *folders) == 2
    shown = capsys.readouterr()
    assert "pip install -r requirements-prepare.txt" in shown.err
    assert shown.out == "gtsrb: train 15, test 6; 3 classes; as recorded\n"
    assert not (tmp_path / "data" / "cifar10").exists()
