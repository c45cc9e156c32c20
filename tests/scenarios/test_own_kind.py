"""A user-registered kind of scenario works everywhere, defined in this file alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from magmax_jax.api.presets import paper
from magmax_jax.cli.run import parse
from magmax_jax.config import ExperimentConfig, ScenarioConfig
from magmax_jax.errors import UserError
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.report.groups import grouped
from magmax_jax.report.paper_table import columns
from magmax_jax.report.runs import Run
from magmax_jax.runs.estimate import data_size
from magmax_jax.scenarios import Data, Division, ScenarioKind, build_scenario


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """Splits classes into even ids, then odd ones."""
    classes = np.arange(len(data.train.class_names))
    train, test = (part.source.labels % 2 for part in data.parts)
    return Division(["even", "odd"], [classes[::2], classes[1::2]], (train, test))


@pytest.fixture(autouse=True)
def registered():
    SCENARIO_KINDS.register(
        "parity",
        ScenarioKind(
            title="by parity",
            divide=divide,
            shares=lambda config, classes, domains: [0.6, 0.4],
            parts="parities",
            reads=("dataset",),
            task_aware=True,
        ),
    )
    yield
    SCENARIO_KINDS.unregister("parity")


def test_data_is_divided_as_it_specifies():
    scenario = build_scenario(ScenarioConfig(kind="parity", dataset="digits"), 5)
    assert scenario.name == "digits, by parity"
    assert [task.name for task in scenario.tasks] == ["even", "odd"]
    assert [task.epochs for task in scenario.tasks] == [10, 10]  # the data set's
    np.testing.assert_array_equal(scenario.task_of, scenario.test.labels % 2)


def test_the_command_line_offers_it(capsys):
    assert parse(["quickstart", "--scenario.kind", "parity"]).config.scenario.kind == "parity"
    with pytest.raises(SystemExit):
        parse(["quickstart", "--help"])
    assert "{class,data,domain,datasets,parity}" in capsys.readouterr().out


def test_plans_use_its_shares_if_the_data_is_missing(tmp_path):
    config = ScenarioConfig(kind="parity", data_dir=str(tmp_path))
    assert [task.images for task in data_size(config, 5).tasks] == [30_000, 20_000]


def test_reports_and_tables_use_its_terms(tmp_path):
    config = ExperimentConfig(scenario=ScenarioConfig(kind="parity", dataset="digits"))
    [group] = grouped([Run(tmp_path, config)])
    assert group.title == "digits, by parity, 0 tasks"
    run = SimpleNamespace(config=config, beside=lambda protocol: {}, choices=[])
    assert [column.title for column in columns([run], "last_accuracy", None)] == [
        "digits, parities"
    ]
    assert paper(config).merging.average_divisor == "tasks"


def test_an_unknown_kind_gives_a_one_sentence_error(tmp_path):
    sentence = "'weather' is not a scenario kind: choose from class, data, domain, datasets, parity"
    with pytest.raises(UserError, match=sentence):
        ScenarioConfig(kind="weather")
    (tmp_path / "config.json").write_text('{"scenario": {"kind": "weather"}}')
    with pytest.raises(UserError, match=sentence):
        ExperimentConfig.from_file(tmp_path / "config.json")
