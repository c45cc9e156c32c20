"""Values that the configuration refuses give one sentence that names the flags."""

import dataclasses
import operator
from pathlib import Path

import pytest

from magmax_jax.cli.flags import parse, with_flags
from magmax_jax.cli.main import main
from magmax_jax.cli.run import Launch
from magmax_jax.config import ExperimentConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import ConfigError
from magmax_jax.scenarios import build_scenario


def test_negative_scales_are_not_taken_for_flags():
    for scales in (["--sweep.scales", "-1,-0.5"], ["--sweep.scales=-1:-0.5:0.5"]):
        words = ["--merges", "negmerge@-0.3", "average", *scales]
        launch = parse(Launch, words, default=Launch(ExperimentConfig(), Path("out")))
        assert launch.config.merges == ("negmerge@-0.3", "average")
        assert launch.sweep.values == (-1, -0.5)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("run class --train.batch-size 0", "--train.batch-size is 0: it must be positive"),
        ("run class --seed -1", "--seed is -1: it must not be negative"),
        (
            "run class --train.batch-size 3 --train.accumulate 2",
            "--train.accumulate is 2: it must divide --train.batch-size, which is 3",
        ),
        ("run folder", "dataset folder needs --scenario.data-dir: the folder that holds"),
        ("run class --merges ties@x", "--merges: 'ties@x' needs a number after the @"),
        (
            "run class --method.regularizer ewc --method.no-sequential",
            "--method.regularizer ewc keeps a task close to the previous one, but each task starts "
            "from theta_0 with --method.no-sequential: leave one of them out",
        ),
        (
            "run time --method.no-sequential",
            "--method.no-sequential starts every task from theta_0, but --method.start is ema: "
            "choose --method.sequential and --method.start ema, or --method.start pretrained",
        ),
        (
            "run class --method.start first",
            "--method.start is first: choose last, pretrained, or RULE[@SCALE] of a rule among "
            "max_magnitude, ",
        ),
        (
            "run quickstart --scenario.num-tasks 3",
            "digits has 10 classes; --scenario.num-tasks 3 leaves unequal tasks (3, 3, 4): pass "
            "--scenario.allow-unequal or a divisor",
        ),
        (
            "run quickstart --eval-batch-size 250 --mesh.data 3",
            "--mesh.data 3 times --mesh.fsdp 1 does not divide the number of devices, which is",
        ),
        (
            "run quickstart --scenario.validation 0",
            "--merging.scales is set but no training images are held out for choosing one: set "
            "--scenario.validation, e.g. 0.1, or leave out the scales (--merging.scales None)",
        ),
        ("run class --sweep.scales x", "--sweep.scales is 'x': write FIRST:LAST:STEP"),
        ("grid smoke --dry-run --train.epochs 0", "--train.epochs is 0: it must be positive"),
        ("grid smoke --launcher local --jobs 0", "--jobs is 0: it must be positive"),
        # Flags that have other names in other commands.
        ("evaluate . --batch-size 0", "--batch-size is 0: it must be positive"),
    ],
)
def test_a_command_names_its_flags(argv, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(ExperimentConfig().to_json())
    (tmp_path / "model.safetensors").touch()
    assert main(argv.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {sentence}") and error.count("\n") == 1


def test_python_names_the_fields():
    with pytest.raises(ConfigError, match=r"^train\.batch_size is 0: it must be positive$"):
        TrainConfig(batch_size=0)
    with pytest.raises(ConfigError, match=r"scenario\.num_tasks=3 .* scenario\.allow_unequal=True"):
        build_scenario(ScenarioConfig(dataset="digits", num_tasks=3), seed=0)


def test_a_configuration_file_has_fields(tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text('{"train": {"epochs": 0}}')
    assert main(["run", "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"error: {file}: train.epochs is 0: it must be positive\n"


def test_text_that_only_looks_like_a_field_is_unchanged():
    for text in (
        "/data/train.epochs/model.source: there is no such file",
        "the run merges seed models",
        "my.train.epochs and train.epochs-old and --train.epochs",
    ):
        assert with_flags(text) == text


def test_suggested_switches_are_accepted_by_the_command_line():
    launch = Launch(ExperimentConfig(), out=Path("runs"))
    switches = [
        f"{part.name}.{switch.name}"
        for part in dataclasses.fields(ExperimentConfig)
        if dataclasses.is_dataclass(inner := getattr(launch.config, part.name))
        for switch in dataclasses.fields(inner)
        if isinstance(getattr(inner, switch.name), bool)
    ]
    assert "scenario.allow_unequal" in switches
    for name in switches:
        for value in (True, False):
            shown = with_flags(f"{name}={value}")
            config = parse(Launch, [shown], default=launch, prog="run").config
            assert operator.attrgetter(name)(config) is value


def test_a_wrong_flag_is_named_and_exits_with_two(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["run", "class", "--train.epochs", "many"])
    assert ending.value.code == 2
    assert "--train.epochs" in capsys.readouterr().err
